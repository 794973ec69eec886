"""A field cut into tiles gives the objects of the uncut field, wherever the seams lie."""

from functools import partial

import numpy as np
import pytest
from drawn import OTSU, real_field
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage as ndi

from plateline.segment.classical import adaptive, otsu
from plateline.segment.labels import number_objects
from plateline.tiles import label_in_tiles


def connected(mask):
    """Connected pieces of a mask, the plainest local function."""
    return ndi.label(mask)[0].astype(np.int32)


def assert_same_objects(found, expected):
    np.testing.assert_array_equal(number_objects(found), number_objects(expected))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    tile_px=st.integers(20, 50),
)
def test_cut_or_uncut_the_objects_are_the_same(seed, height, width, tile_px):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for y, x in rng.integers(0, (height, width), (rng.integers(0, 30), 2)):
        mask[y, x : x + 4] = True
        mask[y : y + 3, x] = True
    pieces = connected(mask)
    longest = [max(y.stop - y.start, x.stop - x.start) for y, x in ndi.find_objects(pieces)]
    mask &= ~np.isin(pieces, 1 + np.flatnonzero(np.array([*longest, 0]) > 9))
    assert_same_objects(label_in_tiles(connected, mask, tile_px=tile_px, overlap_px=10), connected(mask))


@pytest.mark.parametrize("method", [otsu, partial(adaptive, window_px=51)], ids=["otsu", "adaptive"])
@pytest.mark.parametrize("tile_px", [200, 250, 333, 639])
@pytest.mark.parametrize(("index", "well"), [(1, "A01"), (54, "E06")])
def test_real_cells_cut_into_tiles_are_those_of_the_uncut_field(index, well, tile_px, method):
    image = real_field(index, well)[:1]
    whole, cut = method(image, **OTSU)["nuclei"], method(image, **OTSU, tile_px=tile_px)["nuclei"]
    np.testing.assert_array_equal(cut, whole)


def test_transposed_tiles_are_tiles_of_the_transposed_field():
    mask = real_field(1, "A01")[0] > 60
    plain = label_in_tiles(connected, mask, tile_px=200, overlap_px=60)
    turned = label_in_tiles(connected, mask.T, tile_px=200, overlap_px=60)
    assert_same_objects(turned.T, plain)


def test_one_object_over_many_tiles_is_one():
    mask = np.zeros((200, 300), bool)
    mask[5:195, 7:291] = True
    found = label_in_tiles(connected, mask, tile_px=50, overlap_px=10)
    assert_same_objects(found, connected(mask))


def test_touching_objects_are_not_joined_across_a_seam():
    labels = np.zeros((60, 100), np.int32)
    labels[10:50, 30:50], labels[10:50, 50:70] = 1, 2  # the seam is where they touch
    found = label_in_tiles(lambda tile: tile.copy(), labels, tile_px=50, overlap_px=30)
    assert_same_objects(found, labels)


def test_an_object_across_a_corner_is_one():
    mask = np.eye(80, dtype=bool)
    diagonal = lambda tile: ndi.label(tile, np.ones((3, 3)))[0].astype(np.int32)  # noqa: E731
    assert_same_objects(label_in_tiles(diagonal, mask, tile_px=40, overlap_px=15), diagonal(mask))


def test_tiles_that_disagree_leave_an_object_cut():
    mask = np.ones((20, 80), bool)
    calls = []

    def halves(tile):
        calls.append(tile.shape)
        found = np.zeros(tile.shape, np.int32)
        if len(calls) == 1:
            found[:, :] = 1
        else:  # another picture of the same pixels: stripes
            found[:] = np.arange(tile.shape[0])[:, None] + 1
        return found

    found = label_in_tiles(halves, mask, tile_px=40, overlap_px=10)
    assert len(np.unique(found[:, :40])) == 1
    assert len(np.unique(found[:, 40:])) == 20


@pytest.mark.parametrize("tile_px", [0, -1, 64, 100])
def test_a_small_field_is_not_cut(tile_px):
    calls = []
    label_in_tiles(
        lambda tile: calls.append(tile.shape) or connected(tile), np.ones((64, 50), bool), tile_px=tile_px, overlap_px=8
    )
    assert calls == [(64, 50)]


def test_a_tile_is_no_larger_than_asked():
    sides = []
    mask = np.zeros((500, 70), bool)
    label_in_tiles(lambda tile: sides.append(tile.shape) or connected(tile), mask, tile_px=120, overlap_px=16)
    assert len(sides) == 5
    assert max(side[0] for side in sides) <= 120 + 2 * 16
