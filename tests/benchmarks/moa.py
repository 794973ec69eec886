"""Mechanism of action from somebody else's profiles: BBBC021 through the second door, with everything that doubts it.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/moa.py --profiles TABLE

TABLE is `ljosa_jbiomolscreen_2013_per_well_mean.csv.gz`; beside it stand `BBBC021_v1_image.csv.gz` and
`BBBC021_v1_moa.csv`. By default all are looked for under PLATELINE_DATA or ../shared/data. The recipe is fixed in
advance: z scores over all wells, sphering on all negative controls with ridge 1, treatment mean, 1-NN by cosine.
Snakemake runs `profile`, `correct`, `hits` and `classify` on the 55 plates in a temporary folder, once with compounds
held out (NSC) and once with compounds and weeks (NSCB): the second run redoes `classify` alone. Other recipes are
printed as paired differences and no target. The last line prints the figures as `name=value`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
# The library that is scored is the clone's beside this file, whichever one is installed.
sys.path.insert(0, str(ROOT / "workflow"))
from plateline import classify, cli, correct, methods  # noqa: E402
from plateline.classify import calibration, labels, splits  # noqa: E402
from plateline.identity import features_of  # noqa: E402
from plateline.models.mlp import mlp  # noqa: E402

DATA = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "bbbc021"
TABLE = "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
CONFIG = {
    # Never read: no plate has images. The config asks for them all the same.
    "ingest": {"plate": {"channels": {"1": "DAPI"}}},
    "segment": {"nuclei_channel": "DAPI"},
    "correct": {
        "method": "sphering",
        "scale": "zscore",
        "sphering": {"variant": "ZCA", "ridge": 1.0},
        "min_controls": 0,
        "min_variance": 0,
        "max_correlation": 1,
        "drop": [],
    },
    "profile": {"min_cells": 0, "quantities": {}, "gates": {}, "readouts": {}},
    "classify": {
        "method": "nearest",
        "level": "treatment",
        "negative_class": False,
        "hold_out": "compound",
        "temperature": True,
    },
}
TARGETS = ["results/classify/evaluation.json", "results/hits/false_positives.parquet"]
CORES = 2
# Other recipes: scaling before, correction, classifier.
RECIPES = {
    "z score, no sphering": ("none", "zscore", {}, "nearest"),
    "scaled per plate on its controls": ("none", "standardize", {}, "nearest"),
    "scaled per plate, sphering auto": ("sphering", "standardize", {}, "nearest"),
    "sphering, ridge auto": ("sphering", "zscore", {}, "nearest"),
    "sphering ZCA-cor, ridge 1": ("sphering", "zscore", {"variant": "ZCA-cor", "ridge": 1.0}, "nearest"),
    "tvn, ridge 1": ("tvn", "zscore", {"ridge": 1.0}, "nearest"),
    "combat": ("combat", "zscore", {}, "nearest"),
    "harmony": ("harmony", "zscore", {}, "nearest"),
    "mnn": ("mnn", "zscore", {}, "nearest"),
    "the recipe, k-NN": ("sphering", "zscore", {"ridge": 1.0}, "neighbours"),
    "the recipe, LDA": ("sphering", "zscore", {"ridge": 1.0}, "lda"),
    "the recipe, logistic": ("sphering", "zscore", {"ridge": 1.0}, "logistic"),
}
OPTIONS = {
    "nearest": {"sharpness": 10.0},
    "neighbours": {"n_neighbours": 3, "sharpness": 10.0},
    "logistic": {"C": 1.0},
    "lda": {},
}
N_SIMULATIONS, N_SEEDS = 200, 20
REMEDIES = {
    "focal loss": {"loss": "focal"},
    "class-balanced loss": {"loss": "class-balanced"},
    "logit-adjusted loss": {"loss": "logit-adjusted"},
    "resample over": {"resample": "over"},
    "resample under": {"resample": "under"},
    "confident learning": {"clean": True},
}


def read_screen(table: Path) -> pd.DataFrame:
    """The wells with compound, concentration and mechanism, as a table another lab might have."""
    wells = pd.read_csv(table)
    image = pd.read_csv(table.with_name("BBBC021_v1_image.csv.gz")).rename(
        columns={
            "Image_Metadata_Plate_DAPI": "Image_Metadata_Plate",
            "Image_Metadata_Well_DAPI": "Image_Metadata_Well",
            "Image_Metadata_Compound": "Metadata_Compound",
            "Image_Metadata_Concentration": "Metadata_Concentration",
        }
    )
    keys = ["Image_Metadata_Plate", "Image_Metadata_Well"]
    names = ["Metadata_Compound", "Metadata_Concentration"]
    moa = pd.read_csv(table.with_name("BBBC021_v1_moa.csv"))
    moa.columns = [*names, "Metadata_MoA"]
    wells = wells.merge(image[[*keys, *names]].drop_duplicates(), "left", keys).merge(moa, "left", names)
    negative = wells["Metadata_Compound"] == "DMSO"
    wells["Metadata_ControlType"] = np.where(negative, "negative", "reference")
    wells["Metadata_ConcentrationUnit"] = "uM"
    wells.loc[negative, "Metadata_MoA"] = None
    return wells.copy()


def write_campaign(folder: Path, wells: pd.DataFrame) -> None:
    """A campaign whose plates all start from one table."""
    (folder / "config").mkdir()
    wells.to_parquet(folder / "profiles.parquet")
    (folder / "Snakefile").write_text(cli.SNAKEFILE.format(clone=ROOT))
    lines = [
        f"{plate}\t{plate.split('_')[0]}\tprofiles.parquet\tprofiles"
        for plate in wells["Image_Metadata_Plate"].unique()
    ]
    (folder / "config" / "plates.tsv").write_text("\n".join(["plate\tbatch\tsource\tlayout", *lines]) + "\n")


def run(folder: Path, hold_out: str, targets: list[str]) -> dict:
    """Run the workflow in the folder; the evaluation that it wrote."""
    config = CONFIG | {"classify": CONFIG["classify"] | {"hold_out": hold_out}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--cores", str(CORES), "--quiet", "progress", "rules", "--", *targets]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-5000:])
    return json.loads((folder / TARGETS[0]).read_text())


def show(name: str, scores: dict) -> None:
    """The scores, their doubt and their baselines."""
    right = round(scores["accuracy"] * scores["n"])
    print(f"\n{name}: {right}/{scores['n']} treatments, {scores['accuracy']:.3f}")
    print(f"  {scores['accuracy_low']:.3f} to {scores['accuracy_high']:.3f} ({scores['interval']})")
    for baseline, found in scores["baselines"].items():
        value = found["accuracy"]
        print(f"  {baseline.replace('_', ' '):<22} {'-' if value is None else f'{value:.3f}'}")
    print(f"  Brier {scores['brier']:.4f}, one confidence for all {scores['brier_constant']:.4f}")
    print(f"  log loss {scores['log_loss']:.4f}, one confidence for all {scores['log_loss_constant']:.4f}")
    print(f"  area under risk and coverage {scores['risk_coverage_area']:.4f}, unordered {1 - scores['accuracy']:.4f}")
    for word in ("calibration_error", "set_coverage"):
        low, high = scores[f"{word}_low"], scores[f"{word}_high"]
        print(f"  {word.replace('_', ' ')} {scores[word]:.3f} ({low:.3f} to {high:.3f})")
    print(f"  mean set size {scores['set_size']:.2f}")
    print(f"  novelty AUROC, classes left out {scores['novelty_auroc']:.3f}")
    print("    " + ", ".join(f"{name} {area:.2f}" for name, area in scores["novelty_by_class"].items()))


def known_rows(corrected: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Treatment means (103, D), their classes (103, 12), compounds, and treatments."""
    wells = labels.check_profiles(corrected)
    rows = labels.average_treatments(wells[wells["Metadata_ControlType"] == "reference"], [])
    Y, _ = labels.membership(labels.class_sets(rows, negative_class=False))
    X = rows[features_of(list(rows))].to_numpy(np.float64)
    return X, Y, labels.compound_groups(rows), labels.text_of(rows, "Metadata_Treatment")


def right_by(corrected: pd.DataFrame, method: str, *, leak: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Whether each treatment is named right, and its compound; with the leak its compound may teach."""
    X, Y, compounds, treatments = known_rows(corrected)
    make = partial(methods.load("classify", method), **OPTIONS[method], seed=0)
    held = splits.leave_out([treatments if leak else compounds])
    return calibration.is_right(splits.cross_fit(X, Y, held, make, compounds), Y), compounds


def other_recipes(profiles: pd.DataFrame, own: np.ndarray, compounds: np.ndarray) -> None:
    """NSC of other recipes as paired differences, with a bootstrap over compounds."""
    print("\nother recipes, NSC, difference from the fixed one (95 %, compounds resampled):")
    for name, (method, scale, options, classifier) in RECIPES.items():
        corrector = partial(methods.load("correct", method), **options)
        scaling = methods.load("correct", scale)
        made = correct.correct_profiles(profiles, corrector, scale=scaling, min_controls=0)
        right, _ = right_by(made.profiles, classifier)
        change = right.astype(float) - own
        low, high = calibration.bootstrap_interval(lambda drawn, change=change: change[drawn].mean(), compounds, 0)
        print(f"  {name:<34} {right.sum():>3}/{len(right)}  {change.mean():+.3f} ({low:+.3f} to {high:+.3f})")


def conformal_validity() -> float:
    """Mean coverage of sets on seeded exchangeable data: 99 rows to calibrate, 200 to ask."""
    held = []
    for seed in range(N_SIMULATIONS):
        rng = np.random.default_rng(seed)
        probability = rng.dirichlet(np.full(6, 0.5), 299)
        truth = (rng.random((299, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=5)
        score = 1 - probability[np.arange(299), truth]
        held.append((score[99:] <= calibration.conformal_quantile(score[:99], 0.9)).mean())
    return float(np.mean(held))


def draw_labels(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four classes of 300, 300, 30, 30 rows, a fifth of the labels flipped; and 300 true ones each to be asked."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(4, 20))
    centers *= 2.2 / np.linalg.norm(centers, axis=1, keepdims=True)
    truth, asked = np.repeat(np.arange(4), [300, 300, 30, 30]), np.repeat(np.arange(4), 300)
    X, asked_X = centers[truth] + rng.normal(size=(len(truth), 20)), centers[asked] + rng.normal(size=(len(asked), 20))
    flipped = rng.random(len(truth)) < 0.2
    truth[flipped] = (truth[flipped] + rng.integers(1, 4, flipped.sum())) % 4
    return X, truth, asked_X, asked


def remedies() -> None:
    """Balanced accuracy of each remedy for rare and wrong labels, paired with plain cross-entropy over seeds."""

    def score(seed: int, *, loss: str = "ce", resample: str = "none", clean: bool = False) -> float:
        X, y, asked_X, asked = draw_labels(seed)
        make = partial(mlp, hidden=32, dropout=0.2, epochs=60, loss=loss, mc_samples=0)
        wrapped = classify.wrap(make, resample=resample, clean=clean, ensemble=1, temperature=False, seed=seed)()
        answer = wrapped.fit(X, y).predict_proba(asked_X).argmax(axis=1)
        return float(np.mean([(answer[asked == k] == k).mean() for k in range(4)]))

    plain = np.array([score(seed) for seed in range(N_SEEDS)])
    print(f"\n20 % flipped labels, 10:1 imbalance: balanced accuracy of cross-entropy {plain.mean():.3f}")
    for name, options in REMEDIES.items():
        gain = np.array([score(seed, **options) for seed in range(N_SEEDS)]) - plain
        error = 2.09 * gain.std(ddof=1) / np.sqrt(N_SEEDS)  # t of 19 degrees of freedom
        verdict = "met" if gain.mean() - error > 0 else "MISSED"
        print(f"  {name:<22} {gain.mean():+.3f} ± {error:.3f} over {N_SEEDS} seeds  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", type=Path, default=DATA / TABLE)
    table = parser.parse_args().profiles
    if not table.is_file():
        print(f"no file {table}: set PLATELINE_DATA or name it with --profiles")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_campaign(folder, read_screen(table))
        nsc = run(folder, "compound", TARGETS)
        nscb = run(folder, "compound_batch", TARGETS[:1])
        corrected = pd.read_parquet(folder / "results/correct/profiles.parquet")
        rates = pd.read_parquet(folder / "results/hits/false_positives.parquet").set_index("held_out")
        profiles = pd.concat([pd.read_parquet(p) for p in sorted((folder / "results/profile").glob("*[0-9].parquet"))])
    show("NSC", nsc)
    show("NSCB", nscb)
    right, compounds = right_by(corrected, "nearest")
    leak = right_by(corrected, "nearest", leak=True)[0].mean()
    print(f"\nplanted leak, the same compound may teach: {leak:.3f} instead of {right.mean():.3f}")
    for held_out, row in rates.iterrows():
        print(
            f"false positives at 5 % on held-out {held_out}s: {row['rate']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        )
        print(f"  {row['reason']}" if row["reason"] else "", end="\n" if row["reason"] else "")
    other_recipes(profiles, right, compounds)
    print(f"\nconformal coverage over {N_SIMULATIONS} simulations at 0.90: {conformal_validity():.4f}")
    remedies()
    figures = {
        "nsc": round(nsc["accuracy"] * nsc["n"]),
        "nscb": round(nscb["accuracy"] * nscb["n"]),
        "nsc_lo": f"{nsc['accuracy_low']:.3f}",
        "nsc_hi": f"{nsc['accuracy_high']:.3f}",
        "metadata_only": f"{nsc['baselines']['metadata_only']['accuracy']:.3f}",
        "leak": f"{leak:.3f}",
        "fpr_plate": f"{rates.loc['plate', 'rate']:.3f}",
        "brier_gain": f"{nsc['brier_constant'] - nsc['brier']:.4f}",
        "set_size": f"{nsc['set_size']:.2f}",
        "novelty_auroc": f"{nsc['novelty_auroc']:.3f}",
    }
    print(" ".join(f"{name}={value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
