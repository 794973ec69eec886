"""Agreement with CellProfiler on its own example, ExampleHuman: nuclei found by both, and the areas of their cells.

``python tests/benchmarks/examplehuman.py [--method NAME] [--cells NAME] [--set key=value ...]``. It is agreement with
CellProfiler 4.0.6 and no accuracy: nobody has drawn these cells by hand. CellProfiler drops nuclei at the border and
those whose diameter is not 8 to 80 px; ours are dropped alike before nuclei are matched, one to one, by their centres.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import spearmanr
from shipped import DEFAULTS, ROOT, method_of
from skimage.io import imread

from plateline import methods, metrics, segment
from plateline.segment import cells as growth

DATA = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "examplehuman"
NUCLEI_CHANNEL, CELL_CHANNEL = "d0", "d2"
AREA_PX = (57, 429)
RADIUS_PX = 5.0
# Like for like: CellProfiler lets a cell reach as far as its foreground does, and its threshold, 23.5 counts, lies 0.64
# of the way from our background (6.9) to the usual brightness around nuclei (33.1).
CELLS = {"grow_px": 60, "foreground_share": 0.64}


def read_image() -> np.ndarray:
    """The field, (2, Y, X) float32, nuclei first."""
    paths = [next((DATA / "images").glob(f"*{channel}.*")) for channel in (NUCLEI_CHANNEL, CELL_CHANNEL)]
    return np.stack([imread(path) for path in paths]).astype(np.float32)


def segment_image(image: np.ndarray, method: str, cells: dict) -> pd.DataFrame:
    """Our nuclei, one row each with the area of its cell, at the border and out of range left out."""
    labels = segment.segment_field(image, method_of(method), cells=cells, where="ExampleHuman")
    table = segment.object_table(labels)
    nuclei, whole = (table[table["compartment"] == name] for name in ("nuclei", "cells"))
    nuclei = nuclei.merge(whole[["Metadata_ObjectNumber", "area"]], on="Metadata_ObjectNumber", suffixes=("", "_cell"))
    return nuclei[~nuclei["touches_border"] & nuclei["area"].between(*AREA_PX)]


def read_theirs() -> pd.DataFrame:
    """CellProfiler's nuclei: centre, and the area of the cell of the same number."""
    nuclei, cells = (pd.read_csv(DATA / f"{name}.csv") for name in ("Nuclei", "Cells"))
    nuclei = nuclei.merge(cells[["ObjectNumber", "AreaShape_Area"]], on="ObjectNumber", suffixes=("", "_cell"))
    return nuclei[nuclei["AreaShape_Area"].between(*AREA_PX)]


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    """Recall and precision of nuclei; rank correlation and median ratio of areas over matched ones."""
    centres = theirs[["AreaShape_Center_Y", "AreaShape_Center_X"]].to_numpy()
    pairs = metrics.match_points(centres, ours[["centroid_y", "centroid_x"]].to_numpy(), RADIUS_PX)
    known, found = theirs.iloc[pairs[:, 0]], ours.iloc[pairs[:, 1]]
    cells = found["area_cell"].to_numpy(), known["AreaShape_Area_cell"].to_numpy()
    nuclei = found["area"].to_numpy(), known["AreaShape_Area"].to_numpy()
    return {
        "recall": len(pairs) / len(theirs),
        "precision": len(pairs) / len(ours),
        "cell_spearman": spearmanr(*cells).statistic,
        "cell_ratio": float(np.median(cells[0] / cells[1])),
        "nucleus_spearman": spearmanr(*nuclei).statistic,
        "nucleus_ratio": float(np.median(nuclei[0] / nuclei[1])),
    }


def main() -> None:
    """Compare each way to grow cells, print the table, then the line of the one asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default=DEFAULTS["method"], choices=list(methods.SEGMENTERS))
    parser.add_argument("--cells", default="propagation", choices=growth.METHODS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="keys of segment.cells")
    given = parser.parse_args()
    changed = CELLS | {key: yaml.safe_load(value) for key, value in (pair.split("=") for pair in given.set)}
    defaults = DEFAULTS["cells"] | changed
    image, theirs, last = read_image(), read_theirs(), ""
    print(f"{given.method}; {len(theirs)} nuclei of CellProfiler of {AREA_PX[0]} to {AREA_PX[1]} px; cells: {changed}")
    for name in growth.METHODS:
        ours = segment_image(image, given.method, defaults | {"method": name})
        figures = compare(ours, theirs)
        line = " ".join(f"{key}={value:.3f}" for key, value in figures.items())
        print(f"{name:<12} {len(ours)} nuclei; {line}")
        last = line if name == given.cells else last
    print(last)


if __name__ == "__main__":
    main()
