"""Whole cells around nuclei, drawn and real, against loops; and the promise that each nucleus has one cell."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from drawn import CELLS, OTSU, assert_cells, disc, picture, real_field
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi
from scipy.stats import spearmanr
from skimage.io import imread
from skimage.segmentation import expand_labels

from plateline import metrics
from plateline.errors import ConfigError
from plateline.identity import COMPARTMENTS
from plateline.segment import cells, complete, object_table, segment_field
from plateline.segment.cells import propagate
from plateline.segment.classical import otsu
from plateline.segment.labels import number_objects

ROOT = Path(__file__).parents[1]
METHODS = ["watershed", "propagation", "ring"]


def segment(image, **changed):
    """Labels of a field by `otsu`, with some keys of `segment.cells` changed."""
    return segment_field(image, partial(otsu, **OTSU), cells=CELLS | changed, where="a drawn field")


@pytest.fixture(scope="module", params=[("A01", 1), ("A12", 12), ("E06", 54)], ids=["negative", "positive", "mid-dose"])
def field(request):
    well, index = request.param
    return real_field(index, well)


@pytest.fixture(scope="module", params=METHODS)
def real(field, request):
    return field, segment(field, method=request.param), request.param


FOREGROUND = pytest.mark.parametrize("method", METHODS[:2])


@FOREGROUND
def test_a_cell_reaches_over_its_foreground_and_no_further_than_grow_px(method):
    shape = (120, 160)
    nuclei = picture([(60, 50), (60, 110)], radius=6)
    body = np.where(disc(shape, 60, 50, 11) | disc(shape, 60, 110, 40), 50, 5).astype(np.float32)
    labels = segment(np.stack([nuclei, body]), method=method)
    assert_cells(labels, shape)
    small, large = labels["cells"] == 1, labels["cells"] == 2
    assert (small ^ disc(shape, 60, 50, 11)).sum() < 0.15 * small.sum()
    assert (large ^ disc(shape, 60, 110, 18)).sum() < 0.15 * large.sum()


def test_the_border_of_two_cells_follows_the_dim_line_between_them():
    nuclei = picture([(60, 60), (60, 84)], radius=6)
    body = np.full((120, 160), 5, np.float32)
    body[45:76, 45:100] = 50
    body[:, 68] = 30
    found = segment(np.stack([nuclei, body]), smooth_px=0.5)["cells"]
    assert found[60, 67] == 1
    assert found[60, 69] == 2


@FOREGROUND
def test_dim_cells_keep_their_cytoplasm_beside_bright_ones(method):
    nuclei = picture([(60, 40), (60, 110)], radius=6)
    body = np.random.default_rng(3).normal(5, 0.2, nuclei.shape)
    body += 200 * disc(body.shape, 60, 40, 12)
    labels = segment(np.stack([nuclei, body]).astype(np.float32), method=method)
    area = np.bincount(labels["cytoplasm"].ravel())
    assert area[2] >= 20  # a rim of one pixel around a nucleus of radius 6


@pytest.mark.parametrize("method", METHODS)
def test_without_a_cell_channel_or_with_a_flat_one_a_cell_is_a_ring(method):
    nuclei = picture([(30, 30), (40, 60), (80, 120)])
    ring = segment(nuclei[None], method=method)
    flat = segment(np.stack([nuclei, np.full_like(nuclei, 3)]), method=method)
    np.testing.assert_array_equal(ring["cells"], expand_labels(ring["nuclei"], 12))
    np.testing.assert_array_equal(flat["cells"], ring["cells"])
    assert_cells(ring, nuclei.shape)


@pytest.mark.parametrize("method", METHODS)
def test_no_growth_gives_cells_that_are_their_nuclei(method):
    nuclei = picture([(30, 30), (80, 120)])
    labels = segment(np.stack([nuclei, nuclei]), method=method, grow_px=0)
    np.testing.assert_array_equal(labels["cells"], labels["nuclei"])
    assert not labels["cytoplasm"].any()


@FOREGROUND
def test_several_cell_channels_unite_their_foregrounds(method):
    nuclei = picture([(60, 80)], radius=6)
    left, right = np.full((2, 120, 160), 5, np.float32)
    left[:, 66:82] = 50
    right[:, 78:95] = 5000
    found = segment(np.stack([nuclei, left, right]), method=method)["cells"]
    assert found[60, 69] == 1
    assert found[60, 91] == 1


@settings(max_examples=8, deadline=None)
@given(powers=st.tuples(st.integers(-12, 12), st.integers(-12, 12)))
def test_the_unit_of_a_channel_changes_nothing(powers):
    # Powers of two, so that float32 rounds alike.
    image = real_field(1, "A01")[:, :160, :160]
    scaled = image * np.float32(2.0) ** np.array(powers, np.float32)[:, None, None]
    for method in METHODS[:2]:
        plain, other = segment(image, method=method), segment(scaled, method=method)
        for compartment in COMPARTMENTS:
            np.testing.assert_array_equal(plain[compartment], other[compartment])


def test_real_fields_keep_the_contract(real):
    image, labels, _ = real
    assert_cells(labels, image.shape[1:])
    assert 60 < labels["nuclei"].max() < 320
    assert np.bincount(labels["nuclei"].ravel()).min() >= OTSU["min_area_px"]
    reach = ndi.distance_transform_edt(labels["nuclei"] == 0)
    assert reach[labels["cells"] > 0].max() <= CELLS["grow_px"]
    # A cell without cytoplasm would silently leave every ratio.
    assert np.isin(np.unique(labels["cells"]), np.append(np.unique(labels["cytoplasm"]), 0)).all()


def test_the_same_image_gives_the_same_labels(real):
    image, labels, method = real
    again = segment(image.copy(), method=method)
    assert all(np.array_equal(labels[compartment], again[compartment]) for compartment in COMPARTMENTS)


# propagation


def naive_propagation(seeds, brightness, mask, regularisation):
    """Shortest ways by trying every step again until none gets shorter."""
    best = {place: (0.0, seeds[place]) for place in np.ndindex(seeds.shape) if seeds[place]}
    changed = True
    while changed:
        changed = False
        for y, x in np.ndindex(seeds.shape):
            for dy, dx in np.ndindex(3, 3):
                other = (y + dy - 1, x + dx - 1)
                if not mask[y, x] or other not in best or (dy, dx) == (1, 1) or seeds[y, x]:
                    continue
                change = float(brightness[y, x]) - float(brightness[other])
                square = (dy - 1) ** 2 + (dx - 1) ** 2
                length = np.sqrt((change**2 + regularisation * square) / (1 + regularisation))
                way = (best[other][0] + length, best[other][1])
                if (y, x) not in best or way < best[y, x]:
                    best[y, x], changed = way, True
    found = np.zeros_like(seeds)
    for place, (_, number) in best.items():
        found[place] = number
    return found


@pytest.mark.parametrize("regularisation", [0.0, 0.05, 10.0])
@pytest.mark.parametrize("seed", range(6))
def test_propagation_is_that_of_a_loop(seed, regularisation):
    rng = np.random.default_rng(seed)
    seeds = np.zeros((14, 17), np.int32)
    seeds[tuple(rng.integers(0, (14, 17), (5, 2)).T)] = [9, 2, 4, 7, 1]
    # Few levels, so that many ways are equally long.
    brightness = rng.integers(0, 4, seeds.shape).astype(np.float32)
    mask = rng.random(seeds.shape) < 0.8
    found = propagate(seeds, brightness, mask | (seeds > 0), regularisation=regularisation)
    np.testing.assert_array_equal(found, naive_propagation(seeds, brightness, mask, regularisation))


def test_propagation_of_a_real_field_is_that_of_a_loop(field):
    nuclei = otsu(field, **OTSU)["nuclei"]
    y, x = np.argwhere(nuclei > 0)[len(np.argwhere(nuclei > 0)) // 2]
    window = (slice(max(y - 15, 0), y + 15), slice(max(x - 15, 0), x + 15))
    seeds, brightness = nuclei[window], field[1][window]
    mask = brightness > np.median(brightness)
    found = propagate(seeds, brightness, mask | (seeds > 0), regularisation=0.05)
    np.testing.assert_array_equal(found, naive_propagation(seeds, brightness, mask, 0.05))


def test_no_way_leads_through_another_nucleus():
    seeds = np.zeros((6, 9), np.int32)
    seeds[1:5, 1:3], seeds[1:5, 3:5] = 1, 2  # touching, on level ground where steps cost nothing
    found = propagate(seeds, np.zeros((6, 9), np.float32), np.ones((6, 9), bool), regularisation=0.0)
    np.testing.assert_array_equal(found[seeds > 0], seeds[seeds > 0])
    assert (found > 0).all()


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (1, 30)])
@pytest.mark.parametrize("method", METHODS)
def test_a_field_of_hardly_any_pixels_is_taken(method, shape):
    done = complete(
        {"nuclei": np.zeros(shape, np.int32)}, np.ones((2, *shape), np.float32), **(CELLS | {"method": method})
    )
    assert_cells(done, shape)


def test_regularisation_weighs_distance_against_brightness():
    seeds = np.zeros((40, 60), np.int32)
    seeds[20, 15], seeds[20, 44] = 1, 2
    brightness = np.where(np.arange(60) < 20, 0, 1).astype(np.float32) * np.ones((40, 1), np.float32)
    mask = np.ones(seeds.shape, bool)
    near = propagate(seeds, brightness, mask, regularisation=1e6)
    assert (near[20] == np.where(np.arange(60) < 30, 1, 2)).all()
    along = propagate(seeds, brightness, mask, regularisation=1e-6)
    assert (along[20] == np.where(np.arange(60) < 20, 1, 2)).all()


def test_propagated_cells_agree_with_cellprofilers(data):
    folder = data / "examplehuman"
    image = np.stack([imread(next((folder / "images").glob(f"*d{c}.tif"))) for c in (0, 2)]).astype(np.float32)
    # 0.64 of the way up is where CellProfiler's threshold lies in this image.
    table = object_table(segment(image, method="propagation", grow_px=60, foreground_share=0.64))
    ours = table.pivot(index="Metadata_ObjectNumber", columns="compartment")
    theirs, whole = (pd.read_csv(folder / f"{name}.csv") for name in ("Nuclei", "Cells"))
    places = [ours[("centroid_y", "nuclei")], ours[("centroid_x", "nuclei")]]
    centres = theirs[["AreaShape_Center_Y", "AreaShape_Center_X"]].to_numpy()
    pairs = metrics.match_points(centres, np.stack(places, axis=1), 5.0)
    assert len(pairs) > 0.95 * len(theirs)
    areas = ours[("area", "cells")].to_numpy()[pairs[:, 1]], whole["AreaShape_Area"].to_numpy()[pairs[:, 0]]
    assert spearmanr(*areas).statistic > 0.8
    assert 0.9 < np.median(areas[0] / areas[1]) < 1.1


def test_the_names_of_the_methods_are_those_of_the_config():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
    allowed = schema["properties"]["segment"]["properties"]["cells"]["properties"]["method"]["enum"]
    assert sorted(allowed) == sorted(METHODS)
    assert set(cells.METHODS) == set(METHODS)


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigError, match="cells: unknown method 'rings'; known are watershed, propagation, ring"):
        segment(picture([(30, 30)])[None], method="rings")


# complete


def test_what_the_method_gives_stays_as_it_is():
    nuclei = np.zeros((20, 20), np.int32)
    nuclei[5:9, 5:9] = 3
    whole = expand_labels(nuclei, 2)
    image = np.zeros((1, 20, 20), np.float32)
    done = complete({"nuclei": nuclei, "cells": whole, "confidence": image[0]}, image, **CELLS)
    np.testing.assert_array_equal(done["cells"], whole)
    np.testing.assert_array_equal(done["cytoplasm"], np.where(nuclei > 0, 0, whole))
    assert not done["confidence"].any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), method=st.sampled_from(METHODS), grow_px=st.sampled_from([0, 0.5, 1, 3, 12]))
def test_every_nucleus_has_exactly_one_cell(seed, method, grow_px):
    rng = np.random.default_rng(seed)
    seeds = np.zeros((30, 40), np.int32)
    seeds[tuple(rng.integers(0, (30, 40), (12, 2)).T)] = rng.permutation(12) + 1
    nuclei = number_objects(expand_labels(seeds, 3))  # many touch
    image = rng.normal(10, 3, (rng.integers(1, 4), 30, 40)).astype(np.float32)
    done = complete({"nuclei": nuclei}, image, **(CELLS | {"method": method, "grow_px": grow_px}))
    assert_cells(done, (30, 40))


def test_one_nucleus_over_the_whole_field_is_a_cell_without_cytoplasm():
    nuclei = np.ones((50, 60), np.int32)
    done = complete({"nuclei": nuclei}, np.ones((2, 50, 60), np.float32), **CELLS)
    np.testing.assert_array_equal(done["cells"], nuclei)
    assert not done["cytoplasm"].any()


@pytest.mark.parametrize("seed", range(3))
def test_the_ring_around_nuclei_is_that_of_a_loop(seed):
    nuclei = np.random.default_rng(seed).choice([0, 0, 0, 0, 3, 8], (9, 11)).astype(np.int32)
    expected = nuclei.copy()
    for y, x in np.argwhere(nuclei == 0):
        # Above a nucleus, left of one, right of one, below one.
        for b, a in ((y + 1, x), (y, x + 1), (y, x - 1), (y - 1, x)):
            if expected[y, x] == 0 and 0 <= b < nuclei.shape[0] and 0 <= a < nuclei.shape[1]:
                expected[y, x] = nuclei[b, a]
    np.testing.assert_array_equal(cells._ringed(nuclei), expected)
