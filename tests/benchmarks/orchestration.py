"""What it costs to run a campaign, apart from its work: dry runs, the start of a job, and screen rules on 300 plates.

Run alone: `python tests/benchmarks/orchestration.py [--only dryrun jobs parts screen]`. Plates of the dry runs have 384
wells and 8 parts, every stage is on, and so is the training of a network; their images are empty files, since nothing
opens them. CPU-seconds are those of the process and its children: wall seconds of a busy machine mean little, and both
are printed. A job's cost on Slurm is taken from `tests/slurm/overhead.py` where a Slurm is up.
"""

import argparse
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow")]

from campaign import TOY_CONFIG, make_campaign, snakemake, write_config, write_sheet  # noqa: E402

from plateline import config as settings  # noqa: E402
from plateline.identity import features_of  # noqa: E402

TARGETS = {"dryrun_26_s": 6, "dryrun_26_mb": 300, "dryrun_300_s": 60, "overhead_share": 0.05}
WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
FIT = {"images": "training/images", "masks": "training/masks", "method": "flow"}
# A part is 10 to 20 minutes of work.
PART_S = 600
PART_RULES = ("ingest_part", "qc_part", "segment_part", "measure_part")
# Wells of a plate from BBBC013: what a job takes without wells is where the line through both arrives.
FEW, MANY = 2, 32
PROBE = """
rule all:
    input: [f"done/{{n}}" for n in range({n})]
rule probe:
    output: touch("done/{{n}}")
    script: "probe.py"
"""
SCREEN_PLATES, SCREEN_FEATURES = (75, 300), 400
SCREEN_PROFILE = {
    "min_cells": 0,
    "quantities": {"signal": "Cells_Intensity_MeanIntensity_GFP + 0"},
    "readouts": {"signal": "median(signal)"},
}
SCREEN_OUTPUTS = {
    "correct_screen": {
        "table": "results/correct/profiles.parquet",
        "anndata": "results/correct/profiles.h5ad",
        "selection": "results/correct/selection.parquet",
        "mixing": "results/correct/mixing.parquet",
        "ledger": "results/correct/profiles.ledger.parquet",
    },
    "report_screen": {"page": "results/report/index.html"},
}
# A screen rule is run as Snakemake would run it, and says what memory it took.
SCREEN_JOB = """
import resource, runpy, sys, types, json
given = json.load(open(sys.argv[1]))
class Files(list):
    def __init__(self, named):
        super().__init__(p for f in named.values() for p in (f if isinstance(f, list) else [f]))
        self.__dict__.update(named)
    def get(self, name, default=None):
        return self.__dict__.get(name, default)
class Params(types.SimpleNamespace):
    def get(self, name, default=None):
        return self.__dict__.get(name, default)
job = types.SimpleNamespace(rule=given["rule"], wildcards=Files({}), log=[given["rule"] + ".log"], threads=1,
    input=Files(given["input"]), output=Files(given["output"]), config=given["config"],
    params=Params(section=given["section"], code="benchmark"))
runpy.run_path(given["script"], {"snakemake": job})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Wall and CPU seconds, peak MB and output of a command with its children."""
    environment = os.environ | {"PYTHONPATH": str(folder / "clone" / "workflow"), "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as child:
        text = child.stdout.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(text[-5000:])
    wall_s = time.monotonic() - start
    return {"wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime, "mb": used.ru_maxrss / 1000, "text": text}


def make_large_campaign(folder: Path, n_plates: int) -> Path:
    """A campaign of plates of 384 wells and 8 parts, every stage on, whose sources need only exist."""
    names = [f"P{number:03d}" for number in range(n_plates)]
    make_campaign(folder, {}, config=TOY_CONFIG | {"segment": TOY_CONFIG["segment"] | {"method": "flow"}})
    segment = {"nuclei_channel": "DNA", "method": "flow", "flow": {"model": "fit"}, "fit": FIT}
    write_config(folder, TOY_CONFIG | {"segment": segment})
    write_sheet(folder, {name: {"parts": "8", "shape": "384"} for name in names})
    for source in [*(f"images/{name}" for name in names), FIT["images"], FIT["masks"]]:
        (folder / source).mkdir(parents=True)
        for well in WELLS if source.startswith("images") else WELLS[:20]:
            (folder / source / f"{well}_z0_c1.tif").touch()
    return folder


def dry_run(scratch: Path, n_plates: int, repeats: int) -> dict[str, float]:
    """Medians of several dry runs, and how many jobs they would do."""
    folder = make_large_campaign(scratch / f"dry{n_plates}", n_plates)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "2"]
    runs = [timed(command, folder) for _ in range(repeats)]
    shutil.rmtree(folder)
    jobs = int(re.search(r"^total\s+(\d+)", runs[0]["text"], re.MULTILINE)[1])
    return {name: statistics.median(run[name] for run in runs) for name in ("wall_s", "cpu_s", "mb")} | {"jobs": jobs}


def bare_dry_run(scratch: Path, n_jobs: int, repeats: int) -> float:
    """CPU-seconds of Snakemake itself for as many jobs: of one file each, without params, code or config."""
    folder = scratch / f"bare{n_jobs}"
    folder.mkdir(parents=True)
    (folder / "Snakefile").write_text(PROBE.format(n=n_jobs))
    (folder / "probe.py").write_text("")
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "2"]
    return statistics.median(timed(command, folder)["cpu_s"] for _ in range(repeats))


def local_overhead(scratch: Path, few: int = 4, many: int = 44) -> dict[str, float]:
    """Seconds that Snakemake takes for one more job of a script that does nothing, one after the other."""
    found = {}
    for n in (few, many):
        folder = scratch / f"probe{n}"
        folder.mkdir(parents=True)
        (folder / "Snakefile").write_text(PROBE.format(n=n))
        (folder / "probe.py").write_text("")
        found[n] = timed([sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"], folder)
    return {name: (found[many][name] - found[few][name]) / (many - few) for name in ("wall_s", "cpu_s")}


def slurm_overhead() -> float:
    """Seconds that Slurm and Snakemake take for one more job; NaN where no Slurm is up."""
    script = ROOT / "tests" / "slurm" / "overhead.py"
    up = shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0
    if not up or not script.is_file():
        return np.nan
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    return float(re.search(r"slurm_job_overhead_s=([\d.]+)", done.stdout)[1])


def write_real_plates(folder: Path) -> None:
    """The demo's config with the default network, and three plates of its images, the first to compile and cache."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    make_campaign(folder, {}, config=config | {"segment": config["segment"] | {"method": "flow"}})
    wells = np.unique([path.name[9:].rpartition(".")[0] for path in sorted(images().glob("Channel1-*.tif"))])
    for name, n_wells in {"warm": 1, "few": FEW, "many": MANY}.items():
        (folder / "images" / name).mkdir(parents=True)
        for well in wells[:: len(wells) // n_wells][:n_wells]:
            for channel in (1, 2):
                file = f"Channel{channel}-{well}.tif"
                shutil.copy(images() / file, folder / "images" / name / file)
    platemap = str(ROOT / "resources" / "bbbc013" / "platemap.csv")
    write_sheet(folder, {name: {"platemap": platemap} for name in ("warm", "few", "many")})


def images() -> Path:
    """Folder with the images of the demo."""
    return ROOT / "resources" / "bbbc013" / "images"


def part_overheads(scratch: Path) -> dict[str, dict[str, float]]:
    """Seconds of each `_part` rule for a plate of few and of many wells, and those that no well accounts for."""
    folder = scratch / "parts"
    write_real_plates(folder)
    for name in ("warm", "few", "many"):
        done = snakemake(
            folder, "--cores", "2", f"results/measure/{name}/part-1.parquet", f"results/qc/{name}/part-1.parquet"
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-5000:])
    found = {}
    for rule in PART_RULES:
        few, many = (read_seconds(folder / "logs" / rule / f"{name}.part-1.benchmark.tsv") for name in ("few", "many"))
        found[rule] = {"few_s": few, "many_s": many, "fixed_s": max(0.0, (few * MANY - many * FEW) / (MANY - FEW))}
    return found


def read_seconds(path: Path) -> float:
    """Wall seconds of a job, from its start to its end."""
    with path.open(newline="") as file:
        return float(next(csv.DictReader(file, delimiter="\t"))["s"])


def write_screen(folder: Path) -> None:
    """A campaign of one plate of profiles, run as far as its wells and assay: the others are drawn in its shape."""
    rng = np.random.default_rng(0)
    kinds = ["negative"] * 32 + ["positive"] * 16 + ["sample"] * 336
    names = {"negative": "DMSO", "positive": "Active"}
    frame = pd.DataFrame({"Metadata_Well": WELLS, "Metadata_ControlType": rng.permutation(kinds)})
    frame["Metadata_Compound"] = [names.get(kind, f"C{i}") for i, kind in enumerate(frame["Metadata_ControlType"])]
    frame["Metadata_Concentration"], frame["Metadata_ConcentrationUnit"] = 1.0, "uM"
    features = [f"Cells_Granularity_{number}_GFP" for number in range(1, SCREEN_FEATURES)]
    features.append("Cells_Intensity_MeanIntensity_GFP")
    drawn = pd.DataFrame(rng.normal(size=(len(WELLS), SCREEN_FEATURES)), columns=features)
    make_campaign(folder, {}, config=TOY_CONFIG | {"profile": SCREEN_PROFILE})
    pd.concat([frame.assign(Metadata_Plate="P000"), drawn], axis=1).to_parquet(folder / "profiles.parquet")
    line = {"source": "profiles.parquet", "layout": "profiles", "platemap": "", "shape": "384"}
    write_sheet(folder, {"P000": line})
    done = snakemake(folder, "--cores", "2", "results/assay/P000.parquet")
    if done.returncode:
        raise RuntimeError(done.stdout[-5000:])


def draw_plates(folder: Path, n_plates: int) -> None:
    """The other plates: new compounds on every third one, which are replicates of each other, and new noise on all."""
    wells, assay = (pd.read_parquet(folder / "results" / stage / "P000.parquet") for stage in ("profile", "assay"))
    features = features_of(wells)
    for number in range(1, n_plates):
        name, rng = f"P{number:03d}", np.random.default_rng(number)
        drawn = wells.assign(Metadata_Plate=name, Metadata_Batch=str(number // 12))
        drawn[features] = rng.normal(size=(len(wells), len(features))) + (number // 12) % 3
        for column in ("Metadata_Compound", "Metadata_Treatment"):
            sample = drawn["Metadata_ControlType"] == "sample"
            drawn.loc[sample, column] = f"L{number // 3}" + drawn.loc[sample, column]
        drawn.to_parquet(folder / "results" / "profile" / f"{name}.parquet")
        assay.assign(Metadata_Plate=name).to_parquet(folder / "results" / "assay" / f"{name}.parquet")


def run_screen(folder: Path, rule: str, inputs: dict) -> dict[str, float]:
    """Wall seconds and peak MB of one screen rule, by its own script and section."""
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    config = settings.fill_defaults(yaml.safe_load((folder / "config" / "config.yaml").read_text()), schema)
    stage, _, grain = rule.partition("_")
    given = {
        "rule": rule,
        "script": str(ROOT / "workflow" / "scripts" / f"{rule}.py"),
        "input": inputs,
        "output": SCREEN_OUTPUTS[rule],
        "section": settings.section(config, stage, grain),
        "config": config,
    }
    (folder / f"{rule}.json").write_text(json.dumps(given))
    return timed([sys.executable, "-c", SCREEN_JOB, f"{rule}.json"], folder)


def screen_figures(folder: Path, n_plates: int) -> dict[str, dict[str, float]]:
    """Figures of `correct_screen` and `report_screen` on the first plates."""
    names = [f"P{number:03d}" for number in range(n_plates)]
    wells = [f"results/profile/{name}.parquet" for name in names]
    for stage in ("correct", "hits", "classify", "report"):
        (folder / "results" / stage).mkdir(exist_ok=True)
    write_answers(folder, names)
    page = {
        "wells": wells,
        "assay": [f"results/assay/{name}.parquet" for name in names],
        "hits": "results/hits/hits.parquet",
        "rates": "results/hits/empty.parquet",
        "dose_response": "results/hits/empty.parquet",
        "predictions": "results/classify/predictions.parquet",
        "resemblance": "results/hits/empty.parquet",
        "evaluation": "results/classify/evaluation.json",
        "pictures": [],
        "ledger": "results/ledger.parquet",
        "templates": [str(path) for path in sorted((ROOT / "workflow" / "report").glob("*.[hc]*"))],
    }
    inputs = {"correct_screen": {"wells": wells}, "report_screen": page}
    return {rule: run_screen(folder, rule, files) for rule, files in inputs.items()}


def write_answers(folder: Path, names: list[str]) -> None:
    """Tables that the page of a screen reads, one row per treatment or job: as long as real ones, numbers drawn."""
    treatments = [f"L{plate}C{well}@1 uM" for plate in range(len(names) // 3) for well in range(336)]
    rng, results = np.random.default_rng(0), folder / "results"
    hits = pd.DataFrame({"Metadata_Treatment": treatments, "Metadata_ControlType": "sample", "n_wells": 3})
    hits["distance"], hits["p"], hits["hit"] = rng.gamma(2, size=len(hits)), rng.random(len(hits)), False
    hits.to_parquet(results / "hits" / "hits.parquet")
    hits[["Metadata_Treatment"]].assign(confidence=0.5).to_parquet(results / "classify" / "predictions.parquet")
    hits.iloc[:0].to_parquet(results / "hits" / "empty.parquet")
    (results / "classify" / "evaluation.json").write_text(json.dumps({"coverage": 0.9, "reason": "drawn"}))
    rows = [
        {"Metadata_Plate": name, "Metadata_Well": "", "stage": stage, "rule": f"{stage}_part", "kind": "count"}
        for name in names
        for stage in ("ingest", "qc", "segment", "measure")
        for _ in range(8)
    ]
    ledger = pd.DataFrame(rows).assign(unit="fields", reason="", count_in=48, count_out=48, count=0)
    ledger.to_parquet(results / "ledger.parquet")


def measure_dry_runs(scratch: Path, repeats: int) -> dict[str, float]:
    """Print and return the figures of dry runs."""
    figures = {}
    for n_plates, times in ((26, repeats), (300, 1)):
        found = dry_run(scratch, n_plates, times)
        bare = bare_dry_run(scratch, found["jobs"], times)
        print(
            f"dry run of {n_plates} plates, {found['jobs']} jobs, median of {times}: {found['cpu_s']:.2f} CPU-seconds, "
            f"{found['wall_s']:.2f} s, {found['mb']:.0f} MB; Snakemake alone for as many jobs: {bare:.2f} CPU-seconds",
            flush=True,
        )
        figures |= {f"dryrun_{n_plates}_s": found["cpu_s"]}
        figures |= {"dryrun_26_mb": found["mb"]} if n_plates == 26 else {}
    return figures


def measure_jobs(scratch: Path, repeats: int) -> dict[str, float]:
    """Print and return what one more job costs."""
    found = [local_overhead(scratch / str(number)) for number in range(repeats)]
    wall, cpu = (statistics.median(one[name] for one in found) for name in ("wall_s", "cpu_s"))
    print(f"one more job here, that does nothing: {cpu:.2f} CPU-seconds, {wall:.2f} s, median of {repeats}", flush=True)
    slurm = slurm_overhead()
    print("one more job on Slurm: " + ("no Slurm is up" if np.isnan(slurm) else f"{slurm:.2f} s"), flush=True)
    return {"job_overhead_s": wall}


def measure_parts(scratch: Path, repeats: int) -> dict[str, float]:
    """Print what of a `_part` rule's time no well accounts for; return the largest share of a part of 10 minutes."""
    found = part_overheads(scratch)
    print(f"seconds of a job on BBBC013, {FEW} and {MANY} wells, and what is left without wells")
    for rule, seconds in found.items():
        print(f"{rule:14s}", *(f"{seconds[name]:7.2f}" for name in ("few_s", "many_s", "fixed_s")), flush=True)
    return {"overhead_share": max(seconds["fixed_s"] for seconds in found.values()) / PART_S}


def measure_screen(scratch: Path, repeats: int) -> dict[str, float]:
    """Print what memory the screen rules take on few and many plates."""
    folder = scratch / "screen"
    write_screen(folder)
    draw_plates(folder, SCREEN_PLATES[-1])
    print(f"screen rules on plates of 384 wells and {SCREEN_FEATURES} features")
    for n_plates in SCREEN_PLATES:
        size = n_plates * len(WELLS) * SCREEN_FEATURES * 8 / 1e6
        for rule, used in screen_figures(folder, n_plates).items():
            print(
                f"{rule}, {n_plates} plates, {size:.0f} MB of features: peak {used['mb']:.0f} MB, "
                f"{used['cpu_s']:.0f} CPU-seconds",
                flush=True,
            )
    return {}


SECTIONS = {"dryrun": measure_dry_runs, "jobs": measure_jobs, "parts": measure_parts, "screen": measure_screen}


def main() -> None:
    """Print what was asked for, then the figures by name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=3, help="dry runs of each size, of which the median counts")
    given = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.only:
            figures |= SECTIONS[name](Path(scratch), given.repeats)
    if {"job_overhead_s", "overhead_share"} <= set(figures):  # a part waits for its start as well
        figures["overhead_share"] += figures["job_overhead_s"] / PART_S
    for name, most in TARGETS.items():
        if name in figures:
            print(f"{name}: {figures[name]:.3g}, asked for {most}: {'met' if figures[name] <= most else 'MISSED'}")
    print(" ".join(f"{name}={value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
