"""CPU time and memory of all features, ours beside cp_measure's fastest path, on the same labels and images.

Run it from anywhere: ``python tests/benchmarks/features.py``. Fields are 1024 and 2048 pixels wide, with 5 channels:
nuclei of dsb2018_fluo (PLATELINE_DATA or ../shared/data) tiled, cells grown 15 pixels from them, further channels drawn
from the first. Each side runs in a process of its own, on one thread, in CPU-seconds; features are of one label image,
the cells. cp_measure's fastest path is, family by family, the faster of its numpy and numba functions. Then
`measure_part` runs end to end on a plate of such fields.
"""

import argparse
import json
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[threads] = "1"

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import tifffile  # noqa: E402
from scipy import ndimage  # noqa: E402
from skimage.segmentation import expand_labels  # noqa: E402

ROOT = Path(__file__).parents[2]
# The library that is timed is the clone's beside this file, whichever one is installed.
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]
from measured import DEFAULTS  # noqa: E402

from plateline import measure  # noqa: E402

CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]
FULL_SCALE = 65535
CROP, N_CROPS = 256, 16
REPEATS = 3
WELLS = 12
SIDES = {"costes": True, "no_costes": False}


def draw_field(size: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    """Five channels (C, Y, X) and the nuclei (Y, X) of tiled crops, about 300 on 1024 pixels."""
    folder = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "dsb2018_fluo" / "train"
    if not folder.is_dir():
        sys.exit(f"no folder {folder}: set PLATELINE_DATA")
    plane, nuclei, last = np.zeros((size, size)), np.zeros((size, size), np.int32), 0
    # The same crops at either size, so that a cell costs the same but for the size of the field.
    crops = cycle(list(islice((p for p in sorted((folder / "images").iterdir()) if _fits(folder, p)), N_CROPS)))
    for y in range(0, size, CROP):
        for x in range(0, size, CROP):
            path = next(crops)
            image, mask = (tifffile.imread(folder / kind / path.name)[:CROP, :CROP] for kind in ("images", "masks"))
            plane[y : y + CROP, x : x + CROP] = image
            nuclei[y : y + CROP, x : x + CROP] = np.where(mask > 0, mask.astype(np.int32) + last, 0)
            last = nuclei.max()
    rng = np.random.default_rng(size)
    dna = plane / 255
    others = [
        ndimage.gaussian_filter(rng.random(dna.shape), sigma) * 0.5 + 0.3 * ndimage.gaussian_filter(dna, sigma)
        for sigma in (1, 2, 4, 8)
    ]
    lit = [rng.poisson(20_000 * channel) for channel in (dna, *others)]
    return np.clip(np.stack(lit), 0, FULL_SCALE).astype(np.uint16), nuclei


def _fits(folder: Path, path: Path) -> bool:
    """Whether a crop is large enough and has the density of a Cell Painting field."""
    mask = tifffile.imread(folder / "masks" / path.name)
    return min(mask.shape) >= CROP and 14 <= len(np.unique(mask[:CROP, :CROP])) - 1 <= 30


def cells_of(size: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32]]:
    """The field, and its cells numbered from 1."""
    image, nuclei = draw_field(size)
    numbers = np.unique(nuclei)
    return image, np.searchsorted(numbers, expand_labels(nuclei, 15)).astype(np.int32)


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


# --- the two sides, each in its process


def time_ours(size: int) -> dict:
    """CPU-seconds per family and in all with and without Costes, cells and features."""
    from plateline.measure import field, granularity, pixels

    image, cells = cells_of(size)
    numbers = np.arange(1, cells.max() + 1, dtype=np.int32)
    scales = [FULL_SCALE] * len(CHANNELS)

    def measure_all(families: list[str], *, costes: bool) -> npt.NDArray[np.float64]:
        settings = replace(DEFAULTS, families=families, costes=costes)
        shares = image.astype(np.float32) / np.float32(FULL_SCALE)
        place = pixels.list_pixels(cells, numbers)
        values = pixels.take_values(place, shares)
        spectrum = granularity.open_field(shares, settings) if "Granularity" in families else None
        return field.measure_objects(place, values, spectrum, scales, settings, families)

    families = list(measure.FAMILIES)
    n_features = len(measure_all(families, costes=True))
    before = cpu_seconds(lambda: measure_all([], costes=False), REPEATS)
    each = {"pixels, ranks and intensity": before}
    for family in families:
        each[family] = cpu_seconds(lambda family=family: measure_all([family], costes=False), REPEATS) - before
    each["Costes"] = cpu_seconds(lambda: measure_all(["Correlation"], costes=True), REPEATS) - before
    each["Costes"] -= each["Correlation"]
    totals = {name: cpu_seconds(lambda on=on: measure_all(families, costes=on), REPEATS) for name, on in SIDES.items()}
    return {"families": each, "totals": totals, "cells": len(numbers), "features": n_features}


def time_theirs(size: int) -> dict:
    """CPU-seconds per family of cp_measure's faster functions, and in all with and without Costes."""
    import oracle
    from cp_measure.core import measurecolocalization
    from cp_measure.core.numba import _feret, measureobjectintensity, measuretexture

    image, cells = cells_of(size)
    shares = image.astype(np.float32).astype(np.float64) / FULL_SCALE
    fast = {
        "AreaShape": (oracle.measureobjectsizeshape, "get_feret", _feret.get_feret),
        "Intensity": (oracle.measureobjectintensity, "get_intensity", measureobjectintensity.get_intensity),
        "Texture": (oracle.measuretexture, "get_texture", measuretexture.get_texture),
    }
    each = {}
    for family in measure.FAMILIES:
        if family == "Location":
            continue  # comes with Intensity, there as here
        settings = replace(DEFAULTS, families=[family], costes=False)
        work = lambda settings=settings: oracle.measure_as_cellprofiler(shares, cells, CHANNELS, settings, FULL_SCALE)  # noqa: E731
        each[family] = cpu_seconds(work, 1)
        if family in fast:
            module, name, function = fast[family]
            setattr(module, name, function)
            work()
            each[family] = min(each[family], cpu_seconds(work, 1))
    pairs = [(a, b) for a in range(len(CHANNELS)) for b in range(a + 1, len(CHANNELS))]
    costes = measurecolocalization.get_correlation_costes
    each["Costes"] = cpu_seconds(
        lambda: [costes(shares[a], shares[b], cells, scale_max=FULL_SCALE) for a, b in pairs], 1
    )
    total = sum(each.values())
    return {"families": each, "totals": {"costes": total, "no_costes": total - each["Costes"]}}


def run_side(side: str, size: int) -> dict:
    """What a side measured in a process of its own, with the most memory that process held, in MB."""
    command = [sys.executable, __file__, "--side", side, "--size", str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


# --- measure_part end to end


def prepare_plate(folder: Path, wells: int) -> None:
    """A campaign whose fields are ingested and segmented."""
    from campaign import TOY_CONFIG, make_campaign, run, write_sheet

    config = TOY_CONFIG | {
        "ingest": {
            "plate": {"channels": {str(number): name for number, name in enumerate(CHANNELS)}},
            "pattern": TOY_CONFIG["ingest"]["pattern"],
        },
        "segment": {"method": "otsu", "nuclei_channel": "DNA", "cell_channels": ["ER"], "cells": {"grow_px": 15}},
        "flatfield": {"method": "none"},
        "profile": {"min_cells": 1},
    }
    make_campaign(folder, {}, config=config)
    image, _ = draw_field(1024)
    (folder / "images" / "P").mkdir(parents=True)
    for well in range(wells):
        for channel, plane in enumerate(image):
            tifffile.imwrite(folder / "images" / "P" / f"A{well + 1:02d}_z0_c{channel}.tif", plane)
    (folder / "map.csv").write_text("Well,ControlType\nA1,negative\n")
    write_sheet(folder, {"P": {}})
    run(folder, "results/segment/P/part-1.fields.parquet")


def run_part(folder: Path, workers: int) -> dict[str, float]:
    """Wall and CPU time of the script `measure_part`, CPU time of the kernels in it, and numbers it wrote."""
    from snakemake.iocontainers import InputFiles, OutputFiles, Params, Wildcards

    os.chdir(folder)
    (folder / "out").mkdir(exist_ok=True)
    inputs = {
        "fields": "results/ingest/P/part-1.parquet",
        "segmented": "results/segment/P/part-1.fields.parquet",
        "flatfield": "results/flatfield/P/flatfield.parquet",
    }
    job = SimpleNamespace(
        rule="measure_part",
        wildcards=Wildcards(fromdict={"plate": "P", "part": "1"}),
        threads=workers,
        log=["out/log"],
        input=InputFiles(fromdict=inputs),
        output=OutputFiles(fromdict={"table": "out/part-1.parquet", "ledger": "out/part-1.ledger.parquet"}),
        params=Params(fromdict={"section": vars(DEFAULTS), "code": "", "share": [1, 1]}),
    )
    plain, spent = measure.measure_field, []

    def timed(*arguments: object, **keywords: object) -> object:
        start = time.process_time()
        found = plain(*arguments, **keywords)
        spent.append(time.process_time() - start)
        return found

    measure.measure_field = timed
    wall, cpu = time.perf_counter(), time.process_time()
    # As `__main__`, whose functions reach a worker by value.
    script = str(ROOT / "workflow" / "scripts" / "measure_part.py")
    runpy.run_path(script, init_globals={"snakemake": job}, run_name="__main__")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    measure.measure_field = plain
    table = pq.read_metadata("out/part-1.parquet")
    return {"wall": wall, "cpu": cpu, "kernels": sum(spent), "numbers": table.num_rows * table.num_columns}


def time_part() -> dict[str, float]:
    """End to end over the kernels alone, numbers per CPU-second, and how much two workers gain over one."""
    with tempfile.TemporaryDirectory() as folder:
        prepare_plate(Path(folder) / "campaign", WELLS)
        run_part(Path(folder) / "campaign", 1)  # compiles
        one, two = (run_part(Path(folder) / "campaign", workers) for workers in (1, 2))
        os.chdir(ROOT)
    return {
        "write_overhead": one["cpu"] / one["kernels"],
        "numbers_per_s": one["numbers"] / one["cpu"],
        "worker_speedup": one["wall"] / two["wall"],
    }


# --- the table


def show(ours: dict, theirs: dict) -> None:
    """CPU-seconds of either side by family."""
    print(f"{'CPU-seconds, 1024 pixels':32}{'ours':>9}{'cp_measure':>12}{'ratio':>8}")
    for family, seconds in ours["families"].items():
        other = theirs["families"].get(family)
        print(f"{family:32}{seconds:9.3f}" + (f"{other:12.2f}{other / seconds:8.0f}" if other else ""))
    for name, title in (("costes", "all, with Costes"), ("no_costes", "all, without Costes")):
        a, b = ours["totals"][name], theirs["totals"][name]
        print(f"{title:32}{a:9.3f}{b:12.2f}{b / a:8.1f}")
    print(f"{'peak memory, MB':32}{ours['memory']:9.0f}{theirs['memory']:12.0f}")


def main() -> None:
    """Both sides at 1024, ours at 2048, then the script; the last line has the figures."""
    small, theirs, large = run_side("ours", 1024), run_side("theirs", 1024), run_side("ours", 2048)
    show(small, theirs)
    per_cell = [side["totals"]["costes"] / side["cells"] for side in (small, large)]
    print(f"{small['cells']} and {large['cells']} cells: {1e3 * per_cell[0]:.2f} and {1e3 * per_cell[1]:.2f} ms a cell")
    names = measure.feature_names(CHANNELS, DEFAULTS)
    part = time_part()
    print(
        f"measure_part: {part['numbers_per_s']:,.0f} numbers per CPU-second; 2 workers x {part['worker_speedup']:.2f}"
    )
    figures = {
        "ratio_costes": theirs["totals"]["costes"] / small["totals"]["costes"],
        "ratio_no_costes": theirs["totals"]["no_costes"] / small["totals"]["no_costes"],
        "n_features": len(names),
        "memory_ratio": small["memory"] / theirs["memory"],
        "cost_growth": per_cell[1] / per_cell[0],
        "write_overhead": part["write_overhead"],
    }
    print(" ".join(f"{name}={value:.4g}" for name, value in figures.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=["ours", "theirs", "part"])
    parser.add_argument("--size", type=int, default=1024)
    chosen = parser.parse_args()
    if chosen.side == "part":
        print(json.dumps(time_part()))
    elif chosen.side:
        found = {"ours": time_ours, "theirs": time_theirs}[chosen.side](chosen.size)
        print(json.dumps(found | {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    else:
        main()
