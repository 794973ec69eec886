"""Small campaigns for the tests of the workflow: plates drawn by construction, and runs of Snakemake on them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile
import yaml

from plateline import cli

ROOT = Path(__file__).parents[1]
CLONED = ("Snakefile", "workflow", "config", "envs", "profiles", "slurm")
# Wells of a toy plate, as an untidy person writes them, with control type, compound and dose.
TOY_MAP = """Well,Compound,Concentration,ConcentrationUnit,ControlType
A1,DMSO,,,negative
b01,DMSO,,,negative
r03c01,DMSO,,,negative
A02,drug,10,uM,positive
B2,drug,10,uM,positive
C02,drug,10,uM,positive
A03,drug,1,uM,sample
B03,drug,1,uM,sample
C03,drug,2,uM,sample
"""
WELLS = [f"{row}{column:02d}" for row in "ABC" for column in (1, 2, 3)]
SIDE = 96
TOY_CONFIG = {
    "ingest": {
        "plate": {"channels": {"1": "DNA", "2": "GFP"}},
        "pattern": {"regex": r"(?P<well>[A-Z]\d+)_z(?P<z>\d)_c(?P<channel>\d)\.tif"},
    },
    "segment": {"method": "otsu", "nuclei_channel": "DNA", "cell_channels": ["GFP"]},
    "profile": {
        "min_cells": 3,
        "quantities": {"ratio": "Nuclei_Intensity_MeanIntensity_GFP / Cytoplasm_Intensity_MeanIntensity_GFP"},
        "gates": {"moved": "ratio > negative:q99"},
        "readouts": {"ratio": "median(ratio)", "percent_moved": "percent(moved)", "cells": "per_field()"},
    },
    "assay": {"n_bootstrap": 100},
    "hits": {"n_permutations": 99},
    "classify": {"hold_out": "row"},
}


def draw_field(moved: float, seed: int) -> dict[str, np.ndarray]:
    """DNA and GFP of 16 cells on a grid; `moved` is the share of GFP that is in the nucleus."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    nuclei, cells = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    for centre_y, centre_x in ((a, b) for a in range(12, SIDE, 24) for b in range(12, SIDE, 24)):
        distance = np.hypot(y - centre_y + rng.uniform(-1, 1), x - centre_x + rng.uniform(-1, 1))
        nuclei |= distance < 5
        cells |= distance < 10
    light = {"1": 20 + 150 * nuclei, "2": 20 + 120 * ((cells & ~nuclei) * (1 - moved) + nuclei * moved)}
    return {name: rng.poisson(image).clip(0, 255).astype(np.uint8) for name, image in light.items()}


def draw_plate(folder: Path, wells: list[str] = WELLS, *, seed: int = 0) -> Path:
    """Images of a plate, two planes a channel: controls in columns 1 (negative) and 2 (positive), samples in 3."""
    folder.mkdir(parents=True)
    for number, well in enumerate(wells):
        moved = {"01": 0.2, "02": 0.8}.get(well[1:], 0.5)
        for name, image in draw_field(moved, seed + number).items():
            tifffile.imwrite(folder / f"{well}_z0_c{name}.tif", image)
            tifffile.imwrite(folder / f"{well}_z1_c{name}.tif", image // 2)
    return folder


def truncate(path: Path) -> None:
    """Leave half of a file, as a copy that broke off does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_campaign(folder: Path, plates: dict[str, dict[str, str]], *, config: dict | None = None) -> Path:
    """A campaign folder over a copy of the clone beside it, so that a test may edit the library too.

    Parameters
    ----------
    folder : Path
        Made; the copy of the clone stands in `clone` inside it.
    plates : dict of str to dict
        Name -> further columns of the plate sheet; images are drawn in `images/{name}`.
    config : dict, optional
        Instead of `TOY_CONFIG`.
    """
    (folder / "clone").mkdir(parents=True)
    for name in CLONED:
        source = ROOT / name
        # Compiled kernels stay: they take half a minute to compile. What another process is writing may be gone.
        ignored = shutil.ignore_patterns("*.pyc", "*.pyc.*", "*.draft")
        target = folder / "clone" / name
        shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)
    (folder / "clone" / "resources").symlink_to(ROOT / "resources")  # the shipped models
    (folder / "Snakefile").write_text(cli.SNAKEFILE.format(clone=folder / "clone"))
    (folder / "config").mkdir()
    (folder / "map.csv").write_text(TOY_MAP)
    write_config(folder, config or TOY_CONFIG)
    for number, name in enumerate(plates):
        draw_plate(folder / "images" / name, seed=100 * number)
    write_sheet(folder, plates)
    return folder


def write_config(folder: Path, config: dict) -> None:
    """The campaign's config, keys in the order given."""
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def read_config(folder: Path) -> dict:
    """The campaign's config."""
    return yaml.safe_load((folder / "config" / "config.yaml").read_text())


def write_sheet(folder: Path, plates: dict[str, dict[str, str]]) -> None:
    """The campaign's plate sheet."""
    lines = {
        name: {"plate": name, "source": f"images/{name}", "platemap": "map.csv"} | row for name, row in plates.items()
    }
    columns = list(dict.fromkeys(column for line in lines.values() for column in line))
    rows = ["\t".join(line.get(column, "") for column in columns) for line in lines.values()]
    (folder / "config" / "plates.tsv").write_text("\n".join(["\t".join(columns), *rows]) + "\n")


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Snakemake in a campaign on its own copy of the library; output and errors as text in `stdout`."""
    return python(folder, "snakemake", *arguments)


def plateline(folder: Path, *arguments: str) -> str:
    """Run the command in a campaign on its own copy of the library, and return what it printed."""
    done = python(folder, "plateline.cli", *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def python(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a module in a campaign, with the campaign's own copy of the library."""
    environment = os.environ | {"PYTHONPATH": f"{folder / 'clone' / 'workflow'}"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
    )


def run(folder: Path, *arguments: str) -> str:
    """Run the campaign to the end and return what it printed; fail the test with it if it does not end well."""
    done = snakemake(folder, "--cores", "2", *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def planned(folder: Path, *arguments: str) -> set[str]:
    """Jobs a dry run would do, as `rule`, `rule plate` or `rule plate part`."""
    done = snakemake(folder, "--dry-run", "--cores", "2", *arguments)
    assert done.returncode == 0, done.stdout[-6000:]
    jobs = set()
    for block in re.split(r"\n(?=(?:local)?rule \w+:)", done.stdout)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)[1]
        wildcards = re.search(r"\n    wildcards: (.*)", block)
        values = re.findall(r"=([^,\n]+)", wildcards[1]) if wildcards else []
        jobs.add(" ".join([rule, *values]))
    return jobs - {"all", "campaign"}
