"""From nuclei to cells and their table: our seeded watershed against that of scikit-image, on real cells.

``python tests/benchmarks/cells.py [--wells 3] [--repeats 5]``. A mosaic of wells x wells wells of BBBC013; seeds are
the nuclei that `otsu` finds, the mask is what the default `segment.cells` takes as foreground. CPU-seconds of one
thread, median of several. What follows the nuclei of a field (cells, cytoplasm, table of objects) is timed as a whole.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from unittest import mock

os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
from gpu import read_field
from shipped import DEFAULTS, method_of
from skimage import segmentation

from plateline import segment
from plateline.segment import cells
from plateline.segment.watershed import watershed

CELLS = DEFAULTS["cells"] | {"method": "watershed"}


def task(wells: int) -> tuple[np.ndarray, dict[str, np.ndarray], tuple]:
    """A field, the nuclei in it, and what `segment.complete` then gives the watershed: seeds, brightness, mask."""
    image = read_field(0, wells)
    nuclei = {"nuclei": method_of("otsu")(image)["nuclei"]}
    with mock.patch.object(cells, "watershed", side_effect=watershed) as called:
        segment.complete(nuclei, image, **CELLS)
    return image, nuclei, called.call_args.args


def timed(function: Callable, repeats: int) -> tuple[float, np.ndarray]:
    """Median CPU-seconds of a function, and what it returns."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        found = function()
        spent.append(time.process_time() - start)
    return statistics.median(spent), found


def main() -> None:
    """Print the table, then the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wells", type=int, default=3, help="wells along a side of the field")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    image, nuclei, (seeds, brightness, mask) = task(given.wells)
    ours_s, ours = timed(lambda: watershed(seeds, brightness, mask), given.repeats)
    theirs_s, theirs = timed(lambda: segmentation.watershed(-brightness, seeds, mask=mask), given.repeats)
    equal = float((ours == theirs)[mask].mean())
    after_s, _ = timed(lambda: segment.object_table(segment.complete(nuclei, image, **CELLS)), given.repeats)
    print(f"{seeds.shape[0]} x {seeds.shape[1]} px, {seeds.max()} seeds, {mask.mean():.2f} of the pixels in the mask")
    print(f"watershed: ours {ours_s:.3f} CPU-seconds, scikit-image {theirs_s:.3f}; {equal:.5f} of the pixels equal")
    print(f"all that follows the nuclei: {after_s:.3f} CPU-seconds")
    print(f"watershed_ratio={theirs_s / ours_s:.2f} watershed_equal={equal:.5f} cells_and_table_s={after_s:.2f}")


if __name__ == "__main__":
    main()
