"""Fields for the tests of segmentation: cells known by construction, and real ones; and the promise about labels."""

from pathlib import Path

import numpy as np
import tifffile

from plateline.identity import COMPARTMENTS
from plateline.segment.classical import otsu

FIELDS = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
OTSU = {"smooth_px": 1.0, "min_area_px": 40, "min_distance_px": 5}
CELLS = {"method": "watershed", "smooth_px": 1.0, "foreground_share": 0.25, "regularisation": 0.05, "grow_px": 12}


def disc(shape, y, x, radius):
    """Mask of a disc, (Y, X) bool."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def picture(centers, *, radius=8, shape=(120, 160), seed=0):
    """Bright discs on a noisy background, (Y, X) float32."""
    image = np.random.default_rng(seed).normal(10, 1, shape)
    for y, x in centers:
        image += 100 * disc(shape, y, x, radius)
    return image.astype(np.float32)


def real_field(index, well):
    """Field of BBBC013, nuclei first: (2, Y, X) float32."""
    name = f"{index:02d}-{well[0]}-{well[1:]}.tif"
    return np.stack([tifffile.imread(FIELDS / f"Channel{c}-{name}") for c in (2, 1)]).astype(np.float32)


def empty_fields():
    """Nuclei channels without nuclei, by name."""
    rng = np.random.default_rng(0)
    columns = np.arange(200)[None, :] * np.ones((200, 1))
    return {
        "zero": np.zeros((200, 200)),
        "constant": np.full((200, 200), 7.0),
        "noise": rng.normal(100, 5, (200, 200)),
        "photons": rng.poisson(2, (200, 200)),
        "gradient": 100 + columns,
        "noisy gradient": 100 + columns / 2 + rng.normal(0, 3, (200, 200)),
        "no pixels": np.zeros((0, 0)),
    }


def assert_nuclei(nuclei, shape):
    """Nuclei are int32 of the field's shape, numbered from 1 in the raster order of their first pixels."""
    assert nuclei.dtype == np.int32
    assert nuclei.shape == shape
    numbers, firsts = np.unique(nuclei[nuclei > 0], return_index=True)
    np.testing.assert_array_equal(numbers, np.arange(1, numbers.size + 1))
    assert (np.diff(firsts) > 0).all()


def assert_cells(labels, shape):
    """Every promise about three label images, cell by cell."""
    nuclei, cells, cytoplasm = (labels[compartment] for compartment in COMPARTMENTS)
    assert_nuclei(nuclei, shape)
    assert all(labels[compartment].dtype == np.int32 for compartment in COMPARTMENTS)
    assert cells.shape == cytoplasm.shape == shape
    numbers = np.unique(nuclei[nuclei > 0])
    np.testing.assert_array_equal(np.unique(cells[cells > 0]), numbers)
    for number in numbers:
        assert (cells[nuclei == number] == number).all()
        np.testing.assert_array_equal(cytoplasm == number, (cells == number) & (nuclei == 0))


def real_labels():
    """Nuclei of two real fields of BBBC013 by threshold, (Y, X) int32, as shapes that cells have."""
    for index, well in ((1, "A01"), (50, "E02")):
        yield otsu(real_field(index, well)[:1, 100:340, 60:300], **OTSU)["nuclei"]
