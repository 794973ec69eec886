"""What the demo shows: BBBC013 from folder to report, timed, its figures beside the targets they were set.

Run it alone, from anywhere: ``python tests/benchmarks/bbbc013.py``. It runs a copy of the clone in a temporary folder
and reads what that run wrote. A missed target is said and is no error; a run that fails is one.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import spearmanr

ROOT = Path(__file__).parents[2]
# The library that is timed and scored is the clone's beside this file, whichever one is installed.
sys.path.insert(0, str(ROOT / "workflow"))
from plateline import assay, hits  # noqa: E402
from plateline.identity import READOUT, features_of, readouts_of  # noqa: E402

CLONED = ("Snakefile", "workflow", "config", "envs", "profiles", "slurm", "resources")
PLATE, CORES = "bbbc013", 2
# Compound -> rows of its half of the plate, with the controls that stand there.
HALVES = {"wortmannin": "ABCD", "LY294002": "EFGH"}
EC50_TARGETS = {"wortmannin": (6.0, 14.0), "LY294002": (2.5, 5.5)}
ZPRIME_TARGET, SPEARMAN_TARGET, SECONDS_TARGET, NUCLEI_BEFORE = 0.80, 0.9, 240, 18_000
N_SIMULATED = 2000


@dataclass
class Line:
    """One line of the table: a figure, its value, and what was asked of it; `met` is None where nothing was."""

    figure: str
    value: str
    target: str = ""
    met: bool | None = None

    def __str__(self):
        verdict = {True: "met", False: "MISSED", None: ""}[self.met]
        return f"{self.figure:<53} {self.value:<43} {self.target:<19} {verdict}".rstrip()


def run_demo(folder: Path) -> dict[str, float]:
    """Run the demo in a copy of the clone: seconds by the wall clock, CPU seconds, MB of the largest process.

    Raises
    ------
    RuntimeError
        If the run ends badly; with the end of what it printed.
    """
    for name in CLONED:
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / name, ignore=ignored) if source.is_dir() else shutil.copy(source, folder)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", str(CORES)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "workflow")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seconds = time.monotonic() - start
    if done.returncode:
        msg = f"the demo ended with {done.returncode}:\n{done.stdout[-6000:]}"
        raise RuntimeError(msg)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": seconds, "cpu": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss / 1024}


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a finished run, by what a row of them is."""
    results = folder / "results"
    names = {
        "wells": f"profile/{PLATE}.parquet",
        "profiles": "correct/profiles.parquet",
        "selection": "correct/selection.parquet",
        "curves": "hits/dose_response.parquet",
        "treatments": "hits/hits.parquet",
    }
    tables = {name: pd.read_parquet(results / path) for name, path in names.items()}
    parts = sorted((results / "segment" / PLATE).glob("part-*.fields.parquet"))
    return tables | {"fields": pd.concat(pd.read_parquet(path) for path in parts)}


def read_stages(folder: Path) -> tuple[pd.Series, float]:
    """Seconds of each stage, its jobs summed, and the MB of the largest job, its processes summed."""
    jobs = {path: pd.read_csv(path, sep="\t").iloc[-1] for path in folder.glob("logs/*/*.benchmark.tsv")}
    seconds = pd.Series({path: job["s"] for path, job in jobs.items()})
    stage = [path.parent.name.rpartition("_")[0] for path in jobs]
    return seconds.groupby(stage).sum().sort_values(ascending=False), max(job["max_rss"] for job in jobs.values())


def score_halves(wells: pd.DataFrame, options: dict) -> pd.DataFrame:
    """Plate statistics of each half by its own controls, compound as index; `options` are those of `assay`."""
    scores = []
    for compound, rows in HALVES.items():
        half = wells[wells["Metadata_Row"].isin(list(rows))]
        of_half = assay.plate_statistics(half, ["log2_ratio", "percent_translocated"], **options)
        scores.append(of_half.assign(compound=compound))
    return pd.concat(scores).set_index(["compound", "readout"])


def score_lines(scores: pd.DataFrame, compound: str) -> list[Line]:
    """Z', robust Z' and SSMD of a half; the target is on Z' of the log ratio."""
    lines = []
    for name, of_readout in scores.loc[compound].iterrows():
        n = f"n = {of_readout['n_negative']} + {of_readout['n_positive']} wells"
        wanted = (("zprime", "Z'"), ("robust_zprime", "robust Z'"), ("ssmd", "SSMD"))
        for column, title in wanted if name == "log2_ratio" else wanted[:1]:
            value, low, high = (of_readout[column + bound] for bound in ("", "_low", "_high"))
            line = Line(f"{title} of {name}, {compound} half", f"{value:.3f} [{low:.3f}, {high:.3f}]; {n}")
            if (name, column) == ("log2_ratio", "zprime"):
                line.target, line.met = f">= {ZPRIME_TARGET:.2f}", bool(value >= ZPRIME_TARGET)
            lines.append(line)
    return lines


def pick_curve(curves: pd.DataFrame, compound: str) -> pd.Series:
    """The fitted curve of a compound's log ratio."""
    chosen = (curves["Metadata_Compound"] == compound) & (curves["readout"] == "log2_ratio")
    return curves[chosen].iloc[0]


def format_ec50(curve: pd.Series) -> str:
    """EC50 with its qualifier where that is not `=`."""
    return f"{curve['qualifier'].replace('=', '')}{curve['EC50']:.2f}"


def curve_lines(curve: pd.Series) -> list[Line]:
    """EC50 of a compound with its interval and qualifier, and the shape of its curve."""
    compound, unit = curve["Metadata_Compound"], curve["unit"]
    low, high = EC50_TARGETS[compound]
    inside = bool(curve["qualifier"] == "=" and low <= curve["EC50"] <= high)
    value = f"{format_ec50(curve)} [{curve['low']:.2f}, {curve['high']:.2f}] {unit}; '{curve['qualifier']}'"
    shape = f"hill {curve['hill']:.2f}, R2 {curve['r2']:.3f}, {curve['n_wells']} wells, {curve['n_doses']} doses"
    return [
        Line(f"EC50 of {compound}", value, f"{low:g} to {high:g} {unit}", inside),
        Line(f"  its curve, {curve['curve_class']}", shape),
    ]


def spearman_lines(wells: pd.DataFrame, curve: pd.Series) -> list[Line]:
    """Spearman of dose and response over wells and over medians per dose, and what keeps it from 1."""
    dose, response = sample_wells(wells, curve["Metadata_Compound"])
    simulated = simulate_spearman(dose, response, curve)
    plateau = join_plateaus(dose, response, curve)
    lines = []
    for over, found, drawn in zip(("wells", "medians per dose"), spearman(dose, response), simulated, strict=True):
        low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975])
        limits = f"{middle:.3f} [{low:.3f}, {high:.3f}]; {np.mean(drawn >= SPEARMAN_TARGET):.0%} reach the target"
        title, met = f"Spearman, {curve['Metadata_Compound']}, over {over}", bool(found >= SPEARMAN_TARGET)
        lines.append(Line(title, f"{found:.3f}", f">= {SPEARMAN_TARGET}", met))
        lines.append(Line("  drawn from the fitted curve and the replicates' SD", limits))
    levels = f"{spearman(plateau, response)[0]:.3f}, {len(set(plateau))} levels for {curve['n_doses']} doses"
    return [*lines, Line("  over wells, doses of one plateau as one level", levels)]


def sample_wells(wells: pd.DataFrame, compound: str) -> tuple[np.ndarray, np.ndarray]:
    """Dose (log10 molar, wells of one dose exactly equal) and log ratio of a compound's sample wells."""
    chosen = (wells["Metadata_ControlType"] == "sample") & (wells["Metadata_Compound"] == compound)
    usable = wells[chosen & (wells["Metadata_Status"] == "ok")]
    return usable["Metadata_log10_molar"].round(6).to_numpy(), usable[READOUT + "log2_ratio"].to_numpy()


def spearman(dose: np.ndarray, response: np.ndarray) -> tuple[float, float]:
    """Rank correlation over wells, ties sharing their mean rank, and over the medians per dose."""
    medians = pd.Series(response).groupby(dose).median()
    return spearmanr(dose, response).statistic, spearmanr(medians.index, medians).statistic


def draw_fit(dose: np.ndarray, curve: pd.Series) -> np.ndarray:
    """The fitted curve at some doses."""
    return hits.four_parameter(dose, *(curve[name] for name in ("bottom", "top", "fitted_pEC50", "hill")))


def simulate_spearman(dose: np.ndarray, response: np.ndarray, curve: pd.Series) -> np.ndarray:
    """Spearman of drawn plates whose truth is the fitted curve, (2, N) over wells and over medians.

    Notes
    -----
    The curve rises with every dose, so without noise its Spearman is 1; what the drawn plates lack of that is noise
    on the plateaus, where neighbouring doses differ by far less than replicates do and the ranks are a lottery. Noise
    is normal, with the SD that the replicates of each dose have: the SD of all doses together is larger, for it is
    largest on the slope, and would excuse too much.
    """
    noise = pd.Series(response).groupby(dose).transform("std")
    fitted, rng = draw_fit(dose, curve), np.random.default_rng(0)
    return np.array([spearman(dose, fitted + rng.normal(0, noise)) for _ in range(N_SIMULATED)]).T


def join_plateaus(dose: np.ndarray, response: np.ndarray, curve: pd.Series) -> np.ndarray:
    """Level of each well: a dose whose fit lies within the replicates' pooled SD of the dose below shares its level."""
    doses, of_well = np.unique(dose, return_inverse=True)
    pooled = np.sqrt(pd.Series(response).groupby(dose).var().mean())
    return np.append(0, np.cumsum(np.diff(draw_fit(doses, curve)) > pooled))[of_well]


def count_lines(tables: dict[str, pd.DataFrame]) -> list[Line]:
    """Nuclei, wells, features and hits."""
    wells, treatments = tables["wells"], tables["treatments"]
    found, kept = int(tables["fields"]["n_nuclei"].sum()), tables["selection"]["kept"].sum()
    near, tested = abs(found / NUCLEI_BEFORE - 1) < 0.1, treatments["q"].notna().sum()
    return [
        Line("nuclei found", f"{found:,}", f"about {NUCLEI_BEFORE:,} (10 %)", bool(near)),
        Line("cells counted, borders excluded", f"{wells['Metadata_Object_Count'].sum():,}"),
        Line("wells that count", f"{(wells['Metadata_Status'] == 'ok').sum()} of {len(wells)}"),
        Line("readouts", ", ".join(readouts_of(wells))),
        Line("features measured, kept after selection", f"{len(features_of(list(wells)))}, {kept}"),
        Line("hits among tested treatments", f"{treatments['hit'].sum()} of {tested}"),
    ]


def time_lines(used: dict[str, float], folder: Path) -> list[Line]:
    """Seconds of the run and of each stage, CPU seconds, memory; stages overlap where they do not wait."""
    stages, job_mb = read_stages(folder)
    each = [Line(f"  {stage}", f"{seconds:.1f} s") for stage, seconds in stages.items()]
    return [
        Line(f"demo on {CORES} cores", f"{used['wall']:.1f} s", f"< {SECONDS_TARGET} s", used["wall"] < SECONDS_TARGET),
        Line("  CPU of all its processes", f"{used['cpu']:.1f} s"),
        Line("  largest process; largest job as sampled", f"{used['rss_mb']:.0f} MB; {job_mb:.0f} MB"),
        *each,
    ]


def last_line(tables: dict[str, pd.DataFrame], scores: pd.DataFrame, seconds: float) -> str:
    """The figures of the issue in one line, as they are named there."""
    zprime = {compound: scores.loc[(compound, "log2_ratio"), "zprime"] for compound in HALVES}
    ec50 = {compound: format_ec50(pick_curve(tables["curves"], compound)) for compound in HALVES}
    return (
        f"zprime_wortmannin={zprime['wortmannin']:.3f} zprime_ly294002={zprime['LY294002']:.3f} "
        f"ec50_wortmannin_nM={ec50['wortmannin']} ec50_ly294002_uM={ec50['LY294002']} "
        f"nuclei={tables['fields']['n_nuclei'].sum()} demo_seconds={seconds:.0f}"
    )


def main() -> None:
    """Run the demo, print the table, then the line."""
    options = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["assay"]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="plateline-bbbc013-") as name:
        used = run_demo(Path(name))
        tables, times = read_tables(Path(name)), time_lines(used, Path(name))
    scores = score_halves(tables["wells"], options)
    print(f"BBBC013 on {CORES} of {os.cpu_count()} cores; load before the run {load:.1f}")
    print(f"Intervals {options['confidence']:.0%}: Z' bootstrap of wells, EC50 profile likelihood, Spearman simulated")
    lines = [line for compound in HALVES for line in score_lines(scores, compound)]
    for compound in HALVES:
        curve = pick_curve(tables["curves"], compound)
        lines += curve_lines(curve) + spearman_lines(tables["wells"], curve)
    print(*lines, *count_lines(tables), *times, sep="\n")
    print(last_line(tables, scores, used["wall"]))


if __name__ == "__main__":
    main()
