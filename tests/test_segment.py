"""Segmentation and its tables against images whose cells are known by construction, and against real fields."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage.io import imread
from skimage.segmentation import expand_labels

from plateline.errors import ImageError, LabelError
from plateline.segment import COMPARTMENTS, check_labels, object_table, otsu

FIELDS = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"
OPTIONS = {"smooth_px": 1.0, "min_area_px": 40, "min_distance_px": 5, "grow_px": 12}


def disc(shape, y, x, radius):
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


@pytest.fixture(scope="module", params=[(1, "A01"), (12, "A12"), (54, "E06")], ids=["negative", "positive", "mid-dose"])
def real(request):
    image = real_field(*request.param)
    return image, otsu(image, **OPTIONS)


def assert_contract(labels, shape):
    """Every promise about three label images, cell by cell."""
    nuclei, cells, cytoplasm = (labels[compartment] for compartment in COMPARTMENTS)
    assert all(label.dtype == np.int32 and label.shape == shape for label in labels.values())
    numbers = np.unique(nuclei[nuclei > 0])
    np.testing.assert_array_equal(numbers, np.arange(1, numbers.size + 1))
    np.testing.assert_array_equal(np.unique(cells[cells > 0]), numbers)
    firsts = [np.flatnonzero(nuclei == number)[0] for number in numbers]
    assert firsts == sorted(firsts)
    for number in numbers:
        assert (cells[nuclei == number] == number).all()
        np.testing.assert_array_equal(cytoplasm == number, (cells == number) & (nuclei == 0))


# otsu


def test_discs_become_nuclei_in_raster_order():
    centers = [(20, 120), (30, 30), (80, 70)]
    labels = otsu(picture(centers)[None], **OPTIONS)
    assert_contract(labels, (120, 160))
    assert [labels["nuclei"][center] for center in centers] == [1, 2, 3]
    truth = disc((120, 160), 80, 70, 8)
    found = labels["nuclei"] == 3
    assert (found & truth).sum() / (found | truth).sum() > 0.9


def test_touching_nuclei_are_cut_and_one_nucleus_is_not():
    labels = otsu(picture([(50, 50), (50, 64), (90, 120)])[None], **OPTIONS)
    assert labels["nuclei"].max() == 3
    assert labels["nuclei"][50, 50] != labels["nuclei"][50, 64]
    assert otsu(picture([(50, 50), (50, 64)])[None], **(OPTIONS | {"min_distance_px": 15}))["nuclei"].max() == 1


def test_small_specks_go_and_small_holes_fill():
    image = picture([(50, 50)])
    image[disc(image.shape, 50, 50, 2)] = 10
    image += 100 * disc(image.shape, 90, 120, 2)
    labels = otsu(image[None], **(OPTIONS | {"smooth_px": 0.0}))
    assert labels["nuclei"].max() == 1
    assert labels["nuclei"][50, 50] == 1
    assert labels["nuclei"][90, 120] == 0


def test_the_middle_of_a_ring_of_nuclei_stays_background():
    ring = [(60 + 24 * np.sin(a), 80 + 24 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 10, endpoint=False)]
    labels = otsu(picture(ring)[None], **OPTIONS)
    assert labels["nuclei"].max() == 10
    assert labels["nuclei"][60, 80] == 0


@pytest.mark.parametrize("snr", [3.0, 6.0])
def test_faint_nuclei_are_found(snr):
    image = picture([(30, 30), (30, 90), (80, 60), (90, 130)])
    image = (image - 10) / 100 * snr + np.random.default_rng(1).normal(0, 1, image.shape)
    assert otsu(image[None].astype(np.float32), **OPTIONS)["nuclei"].max() == 4


def empty_fields():
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


@pytest.mark.parametrize("name", empty_fields())
def test_a_field_without_nuclei_has_no_objects(name):
    empty = empty_fields()[name]
    labels = otsu(np.stack([empty, empty]).astype(np.float32), **OPTIONS)
    assert_contract(labels, empty.shape)
    assert not any(label.any() for label in labels.values())
    assert len(object_table(labels)) == 0


def test_a_cell_reaches_over_its_foreground_and_no_further_than_grow_px():
    shape = (120, 160)
    nuclei = picture([(60, 50), (60, 110)], radius=6)
    body = np.where(disc(shape, 60, 50, 11) | disc(shape, 60, 110, 40), 50, 5).astype(np.float32)
    labels = otsu(np.stack([nuclei, body]), **OPTIONS)
    assert_contract(labels, shape)
    small, large = labels["cells"] == 1, labels["cells"] == 2
    assert (small ^ disc(shape, 60, 50, 11)).sum() < 0.15 * small.sum()
    assert (large ^ disc(shape, 60, 110, 18)).sum() < 0.15 * large.sum()


def test_the_border_of_two_cells_follows_the_dim_line_between_them():
    nuclei = picture([(60, 60), (60, 84)], radius=6)
    body = np.full((120, 160), 5, np.float32)
    body[45:76, 45:100] = 50
    body[:, 68] = 30
    cells = otsu(np.stack([nuclei, body]), **(OPTIONS | {"smooth_px": 0.5}))["cells"]
    assert cells[60, 67] == 1
    assert cells[60, 69] == 2


def test_dim_cells_keep_their_cytoplasm_beside_bright_ones():
    nuclei = picture([(60, 40), (60, 110)], radius=6)
    body = np.random.default_rng(3).normal(5, 0.2, nuclei.shape)
    body += 200 * disc(body.shape, 60, 40, 12)
    labels = otsu(np.stack([nuclei, body]).astype(np.float32), **OPTIONS)
    area = np.bincount(labels["cytoplasm"].ravel())
    assert area[2] >= 20  # a rim of one pixel around a nucleus of radius 6


def test_without_a_cell_channel_or_with_a_flat_one_a_cell_is_a_ring():
    nuclei = picture([(30, 30), (40, 60), (80, 120)])
    ring = otsu(nuclei[None], **OPTIONS)
    flat = otsu(np.stack([nuclei, np.full_like(nuclei, 3)]), **OPTIONS)
    np.testing.assert_array_equal(ring["cells"], expand_labels(ring["nuclei"], 12))
    np.testing.assert_array_equal(flat["cells"], ring["cells"])
    assert_contract(ring, nuclei.shape)


def test_no_growth_gives_cells_that_are_their_nuclei():
    nuclei = picture([(30, 30), (80, 120)])
    labels = otsu(np.stack([nuclei, nuclei]), **(OPTIONS | {"grow_px": 0}))
    np.testing.assert_array_equal(labels["cells"], labels["nuclei"])
    assert not labels["cytoplasm"].any()


def test_several_cell_channels_unite_their_foregrounds():
    nuclei = picture([(60, 80)], radius=6)
    left, right = np.full((2, 120, 160), 5, np.float32)
    left[:, 66:82] = 50
    right[:, 78:95] = 5000
    cells = otsu(np.stack([nuclei, left, right]), **OPTIONS)["cells"]
    assert cells[60, 69] == 1
    assert cells[60, 91] == 1


@settings(max_examples=8, deadline=None)
@given(powers=st.tuples(st.integers(-12, 12), st.integers(-12, 12)))
def test_the_unit_of_a_channel_changes_nothing(powers):
    # Powers of two, so that float32 rounds alike.
    image = real_field(1, "A01")[:, :160, :160]
    scaled = image * np.float32(2.0) ** np.array(powers, np.float32)[:, None, None]
    for plain, other in zip(otsu(image, **OPTIONS).values(), otsu(scaled, **OPTIONS).values(), strict=True):
        np.testing.assert_array_equal(plain, other)


def test_an_offset_changes_next_to_nothing():
    image = real_field(1, "A01")
    plain, shifted = otsu(image, **OPTIONS)["nuclei"], otsu(image + 100, **OPTIONS)["nuclei"]
    assert np.mean((plain > 0) != (shifted > 0)) < 0.002
    assert abs(int(plain.max()) - int(shifted.max())) <= 2


def test_real_fields_keep_the_contract(real):
    image, labels = real
    assert_contract(labels, image.shape[1:])
    assert 60 < labels["nuclei"].max() < 320
    assert np.bincount(labels["nuclei"].ravel()).min() >= OPTIONS["min_area_px"]
    reach = ndi.distance_transform_edt(labels["nuclei"] == 0)
    assert reach[labels["cells"] > 0].max() <= OPTIONS["grow_px"]
    # A cell without cytoplasm would silently leave every ratio.
    assert np.isin(np.unique(labels["cells"]), np.append(np.unique(labels["cytoplasm"]), 0)).all()


def test_the_same_image_gives_the_same_labels(real):
    image, labels = real
    again = otsu(image.copy(), **OPTIONS)
    assert all(np.array_equal(labels[compartment], again[compartment]) for compartment in COMPARTMENTS)


def test_nuclei_of_other_microscopes_are_mostly_found(data):
    paths = sorted((data / "dsb2018_fluo" / "val" / "images").iterdir())[::4]
    shares = []
    for path in paths:
        image = imread(path).astype(np.float32)
        truth = imread(path.parents[1] / "masks" / path.name)
        found = otsu(image[None], **OPTIONS)["nuclei"]
        overlap = np.zeros((truth.max() + 1, found.max() + 1))
        np.add.at(overlap, (truth.ravel(), found.ravel()), 1)
        union = overlap.sum(1)[:, None] + overlap.sum(0)[None] - overlap
        hits = (overlap[1:, 1:] > 0.5 * union[1:, 1:]).sum()
        shares.append(2 * hits / (np.unique(truth).size - 1 + found.max()))
    assert np.median(shares) > 0.75


@pytest.mark.parametrize("shape", [(64, 64), (0, 64, 64), (1, 2, 8, 8)])
def test_an_image_without_channel_axis_is_refused(shape):
    with pytest.raises(ImageError, match=r"has shape .*; expected \(channel, y, x\)"):
        otsu(np.zeros(shape, np.float32), **OPTIONS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(value):
    image = picture([(30, 30)])[None].copy()
    image[0, 5, 5] = value
    with pytest.raises(ImageError, match="1 pixels that are not finite"):
        otsu(image, **OPTIONS)


# object_table


def naive_objects(labels):
    rows = []
    for compartment in COMPARTMENTS:
        image = labels[compartment]
        for number in np.unique(image[image > 0]):
            y, x = np.nonzero(image == number)
            box = (y.min(), x.min(), y.max() + 1, x.max() + 1)
            border = y.min() == 0 or x.min() == 0 or y.max() + 1 == image.shape[0] or x.max() + 1 == image.shape[1]
            parent = 0 if compartment == "nuclei" else number
            rows.append((number, compartment, parent, y.mean(), x.mean(), *box, y.size, border, np.nan))
    rows.sort(key=lambda row: (row[0], COMPARTMENTS.index(row[1])))
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_object_table_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    labels = {name: np.int32([0, 2, 5, 9])[rng.integers(0, 4, (13, 17))] for name in COMPARTMENTS}
    table = object_table(labels)
    expected = pd.DataFrame(naive_objects(labels), columns=table.columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected)


def test_object_table_of_a_real_field_is_that_of_a_loop(real):
    table = object_table(real[1])
    expected = pd.DataFrame(naive_objects(real[1]), columns=table.columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected)


def test_object_table_without_objects_has_the_full_schema():
    full = object_table({name: np.ones((3, 3), np.int32) for name in COMPARTMENTS})
    empty = object_table({name: np.zeros((3, 3), np.int32) for name in COMPARTMENTS})
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_an_object_touches_the_border_on_any_side():
    nuclei = np.zeros((9, 9), np.int32)
    nuclei[0, 4], nuclei[4, 0], nuclei[8, 4], nuclei[4, 8], nuclei[4, 4] = 1, 2, 3, 4, 5
    table = object_table({name: nuclei for name in COMPARTMENTS})
    assert table.groupby("Metadata_ObjectNumber")["touches_border"].first().tolist() == [True] * 4 + [False]


# check_labels


def good():
    nuclei = np.zeros((4, 5), np.int32)
    nuclei[1, 1], nuclei[2, 3] = 1, 7
    cells = nuclei.copy()
    cells[1, 2] = 1
    return {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, 0, cells)}


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.uint16])
def test_good_labels_come_back_as_int32(dtype):
    labels = {name: image.astype(dtype) for name, image in good().items()} | {"spots": np.zeros(3)}
    checked = check_labels(labels, (4, 5), where="otsu, plate P1 well B03")
    assert list(checked) == list(COMPARTMENTS)
    for name, image in good().items():
        assert checked[name].dtype == np.int32
        np.testing.assert_array_equal(checked[name], image)


def bad():
    one = good()["nuclei"]
    return {
        "missing": ({"cytoplasm": None}, r"lack 'cytoplasm'; got \['cells', 'nuclei'\]; expected nuclei"),
        "shape": ({"cells": one.T}, r"cells labels of .* have shape \(5, 4\); expected \(4, 5\)"),
        "dtype": ({"nuclei": one.astype(float)}, "nuclei labels of .* have dtype float64; expected an integer"),
        "bool": ({"nuclei": one > 0}, "have dtype bool; expected an integer"),
        "negative": ({"nuclei": -one}, "have numbers from -7 to 0; expected 0 to 2147483647"),
        "too large": ({"cells": one.astype(np.int64) << 32}, "have numbers from 0 to 30064771072"),
        "no cell": ({"cells": np.where(one == 7, 0, one)}, "have 1 nuclei without a cell, the first is number 7"),
        "no nucleus": ({"nuclei": np.where(one == 1, 0, one)}, "have 1 cells without a nucleus, .* number 1"),
        "alone": ({"cytoplasm": np.where(one == 1, 3, 0)}, "have 1 cytoplasm without a cell, .* number 3"),
    }


@pytest.mark.parametrize("name", bad())
def test_labels_that_break_the_contract_are_refused(name):
    change, message = bad()[name]
    labels = {key: image for key, image in (good() | change).items() if image is not None}
    with pytest.raises(LabelError, match=message) as caught:
        check_labels(labels, (4, 5), where="otsu, plate P1 well B03")
    assert "plate P1 well B03" in str(caught.value)
