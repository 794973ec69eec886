"""What another way to segment does to Z' of BBBC013: the difference to `otsu` and `watershed` on the same wells.

``python tests/benchmarks/zprime.py [--method NAME ...] [--cells NAME ...]``. The readout is the demo's, the median over
cells of log2 nuclear / cytoplasmic FKHR, on the control wells of each half of the plate, raw pixels. Z' is no score of
masks: few wells, and a rule that misses every cell in the same way has a fine one.
"""

import argparse
from itertools import product

import numpy as np
import pandas as pd
from shipped import DEFAULTS, ROOT, method_of
from skimage.io import imread

from plateline import methods, segment
from plateline.assay.controls import zprime
from plateline.segment import cells as growth

PLATE = ROOT / "resources" / "bbbc013"
HALVES = {"wortmannin": "ABCD", "LY294002": "EFGH"}
REFERENCE = ("otsu", "watershed")
DRAWS = 2000


def read_field(well: str) -> np.ndarray:
    """DNA, then FKHR of a well, (2, Y, X) float32."""
    paths = [next((PLATE / "images").glob(f"Channel{c}-*-{well[0]}-{well[1:]}.tif")) for c in (2, 1)]
    return np.stack([imread(path) for path in paths]).astype(np.float32)


def log_ratio(image: np.ndarray, method: str, cells: str) -> float:
    """Median over the cells that touch no border of log2 nuclear / cytoplasmic brightness."""
    labels = segment.segment_field(
        image, method_of(method), cells=DEFAULTS["cells"] | {"method": cells}, where="BBBC013"
    )
    table = segment.object_table(labels)
    inner = table[(table["compartment"] == "nuclei") & ~table["touches_border"]]["Metadata_ObjectNumber"].to_numpy()
    means = []
    for compartment in ("nuclei", "cytoplasm"):
        numbers = labels[compartment].ravel()
        area = np.bincount(numbers, minlength=inner.max() + 1)
        means.append(np.bincount(numbers, image[1].ravel(), area.size)[inner] / np.maximum(area[inner], 1))
    both = (means[0] > 0) & (means[1] > 0)
    return float(np.median(np.log2(means[0][both] / means[1][both])))


def difference(new: np.ndarray, old: np.ndarray, positive: np.ndarray) -> tuple[float, float, float]:
    """Z' of the new readout less that of the old, and the 95 % interval over wells drawn together for both."""
    rng, groups = np.random.default_rng(0), [np.flatnonzero(positive), np.flatnonzero(~positive)]
    samples = []
    for _ in range(DRAWS):
        drawn = [rng.choice(group, group.size) for group in groups]
        # Wells drawn all alike have no spread and no Z'.
        if all(np.unique(rows).size > 1 for rows in drawn):
            samples.append(zprime(*(new[rows] for rows in drawn)) - zprime(*(old[rows] for rows in drawn)))
    return (
        zprime(new[positive], new[~positive]) - zprime(old[positive], old[~positive]),
        *np.percentile(samples, (2.5, 97.5)),
    )


def main() -> None:
    """Segment the control wells in every way, print the table, then the line of the last way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", nargs="+", default=["otsu", DEFAULTS["method"]], choices=list(methods.SEGMENTERS))
    parser.add_argument("--cells", nargs="+", default=["watershed", "propagation"], choices=growth.METHODS)
    given = parser.parse_args()
    wells = pd.read_csv(PLATE / "platemap.csv")
    wells = wells[wells["ControlType"].isin(["negative", "positive"])].reset_index(drop=True)
    images = [read_field(well) for well in wells["Well"]]
    ways = dict.fromkeys([REFERENCE, *product(given.method, given.cells)])
    ratios = {way: np.array([log_ratio(image, *way) for image in images]) for way in ways}
    figures = {}
    for way, name in product(ways, HALVES):
        half = wells["Well"].str[0].isin(list(HALVES[name])).to_numpy()
        positive = (wells["ControlType"] == "positive").to_numpy()[half]
        own, other = ratios[way][half], ratios[REFERENCE][half]
        value, low, high = difference(own, other, positive)
        score, n = zprime(own[positive], own[~positive]), f"n = {positive.sum()} + {(~positive).sum()} wells"
        print(f"{' '.join(way):<22} {name:<11} Z' {score:.3f}, difference {value:+.3f} [{low:+.3f}, {high:+.3f}]; {n}")
        figures[name.lower()] = value
    print(" ".join(f"zprime_difference_{name}={value:+.3f}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
