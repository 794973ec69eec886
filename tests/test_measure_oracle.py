"""Every feature that cp_measure has too, on real nuclei and cells and on objects that are hard."""

from functools import partial

import numpy as np
import pytest
import tifffile
from drawn import CELLS, OTSU
from measured import as_all, measure, with_settings
from oracle import assert_same, measure_as_cellprofiler, number_from_one
from scipy import ndimage as ndi
from skimage.segmentation import expand_labels

from plateline.measure import FAMILIES
from plateline.segment import segment_field
from plateline.segment.classical import otsu

CHANNELS = ["DNA", "Actin", "ER"]
# Families that need no second channel.
ALONE = [family for family in FAMILIES if family != "Correlation"]


def assert_as_cellprofiler(image, labels, *, grid=255, **changed):
    """All columns of ours are theirs, on the objects of one label image, as cells."""
    channels = CHANNELS[: len(image)]
    changed = {"neighbors_px": [0, 5]} | changed
    settings = with_settings(**changed)
    ours = measure(image * np.float32(grid), as_all(labels), channels, [grid] * len(image), **changed)
    ours = ours.filter(regex="^Cells_").rename(columns=lambda name: name.removeprefix("Cells_"))
    shares = (image * np.float32(grid) / np.float32(grid)).astype(np.float64)
    theirs = measure_as_cellprofiler(shares, number_from_one(labels), channels, settings, grid)
    shared = assert_same(ours, theirs)
    # The centre is under AreaShape there, and the ratio is ours.
    missing = {name for name in ours if name not in shared and "Location_Center_" not in name and "Log2R" not in name}
    assert {name.split("_")[0] for name in missing} <= ({"Neighbors"} if len(ours) < 3 else set())


def textured(shape, seed=0):
    """Three channels: noise, clouds in 8 bits, and their mixture; none is dark or constant on an object."""
    rng = np.random.default_rng(seed)
    noise, clouds = rng.random(shape), ndi.gaussian_filter(rng.random(shape), 3)
    clouds = 0.1 + 0.8 * (clouds - clouds.min()) / np.ptp(clouds)
    return np.stack([noise, np.rint(clouds * 255) / 255, 0.7 * clouds + 0.3 * noise]).astype(np.float32)


def drawn():
    """Objects that are hard: one pixel, a row, a column, at the border, with a hole, in pieces; numbers with gaps."""
    labels = np.zeros((90, 96), np.int32)
    labels[3, 3] = 2
    labels[5, 5:20] = 4
    labels[10:30, 3] = 5
    labels[0:9, 40:50] = 9
    labels[80:90, 80:96] = 10
    labels[88:, :3] = 13
    labels[30:50, 30:52] = 14
    labels[36:41, 36:41] = 0
    labels[38, 38] = 15
    labels[60:66, 10:18] = labels[70:72, 15:17] = 20
    labels[60:75, 40:55] = np.tri(15, dtype=np.int32) * 30
    labels[60:75, 55:60] = 31
    return labels


@pytest.mark.parametrize("grid", [255, 4095])
def test_hard_objects_have_cellprofilers_features(grid):
    assert_as_cellprofiler(textured((90, 96)), drawn(), grid=grid)


def test_other_settings_have_cellprofilers_features():
    assert_as_cellprofiler(
        textured((120, 110), seed=1)[:2],
        np.kron(drawn()[:60, :55], np.ones((2, 2), np.int32)),
        texture_scales=[1, 5],
        texture_levels=16,
        granularity_sampling=0.6,
        granularity_background_sampling=0.5,
        granularity_radius_px=4,
        granularity_steps=5,
        radial_bins=3,
        correlation_threshold=30,
        neighbors_px=[2, 8],
    )


@pytest.mark.parametrize(("n", "families"), [(300, list(FAMILIES)), (3000, ALONE)])
def test_many_objects_have_cellprofilers_features(n, families):
    columns, size = int(np.ceil(np.sqrt(n))), 9
    y, x = np.mgrid[: columns * size, : columns * size]
    labels = (y // size * columns + x // size + 1).astype(np.int32)
    rng = np.random.default_rng(n)
    labels = np.where((labels <= n) & (rng.random(labels.shape) < 0.9), labels, 0)
    image = textured(labels.shape, seed=n)[1 : 3 if "Correlation" in families else 2]
    assert_as_cellprofiler(image, labels, families=families)


@pytest.mark.parametrize("what", ["nuclei", "cells"])
def test_real_nuclei_have_cellprofilers_features(data, what):
    folder = data / "dsb2018_fluo" / "val"
    for path in sorted((folder / "images").glob("*.tif"))[:2]:
        plane = tifffile.imread(path)[:200, :200]
        labels = tifffile.imread(folder / "masks" / path.name)[:200, :200].astype(np.int32)
        labels = labels if what == "nuclei" else expand_labels(labels, 6)
        smooth = np.rint(ndi.gaussian_filter(plane.astype(float), 2))
        assert_as_cellprofiler((np.stack([plane + 1.0, smooth + 2.0]) / 300).astype(np.float32), labels)


@pytest.mark.parametrize("what", ["nuclei", "cells", "cytoplasm"])
@pytest.mark.parametrize("field", ["bbbc013", "examplehuman"])
def test_real_cells_have_cellprofilers_features(data, field, what):
    names = {
        "bbbc013": [f"Channel{channel}-12-A-12.tif" for channel in (2, 1)],
        "examplehuman": [f"AS_09125_050116030001_D03f00d{channel}.tif" for channel in (0, 1, 2)],
    }[field]
    counts = np.stack([tifffile.imread(data / field / "images" / name)[:180, :180] for name in names])
    image = counts.astype(np.float32)
    labels = segment_field(image, partial(otsu, **OTSU), cells=CELLS | {"grow_px": 8}, where=field)[what]
    assert labels.max() > 5
    assert_as_cellprofiler((image + 1) / np.float32(256), labels)
