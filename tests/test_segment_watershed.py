"""Flooding from seeds, on drawn and real fields, against a loop; and against the watershed of scikit-image."""

import heapq

import numpy as np
import pytest
from drawn import real_field
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as ndi
from skimage import segmentation
from skimage.filters import threshold_otsu

from plateline.segment.watershed import watershed


def naive(seeds, brightness, mask):
    """One heap of (level, turn, place): the least deep first, of equals the one that came first."""
    inside = brightness[mask].astype(float)
    steps = 65535 / np.ptp(inside) if np.ptp(inside) > 0 else 0.0
    depth = np.rint(np.clip((inside.max() - brightness) * steps, 0, 65535))
    labels, heap, turn = seeds.copy(), [], 0
    for y, x in np.argwhere(seeds > 0):
        heapq.heappush(heap, (depth[y, x], turn, y, x))
        turn += 1
    while heap:
        level, _, y, x = heapq.heappop(heap)
        for b, a in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if 0 <= b < seeds.shape[0] and 0 <= a < seeds.shape[1] and mask[b, a] and labels[b, a] == 0:
                labels[b, a] = labels[y, x]
                heapq.heappush(heap, (max(level, depth[b, a]), turn, b, a))
                turn += 1
    return labels


def drawn(seed, shape=(40, 37), flat=False):
    """Seeds, brightness and a mask."""
    rng = np.random.default_rng(seed)
    brightness = ndi.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32)
    if flat:
        brightness = np.round(brightness * 8)
    seeds = np.zeros(shape, np.int32)
    seeds[tuple(rng.integers(0, shape, (9, 2)).T)] = np.arange(1, 10)
    return seeds, brightness, (rng.random(shape) < 0.9) | (seeds > 0)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_that_of_a_loop(seed, flat):
    given_ = drawn(seed, flat=flat)
    np.testing.assert_array_equal(watershed(*given_), naive(*given_))


@pytest.mark.parametrize("seed", range(4))
def test_it_is_that_of_scikit_image(seed):
    # Every pixel has its own level, so that neither turns nor rounding decide.
    seeds, _, mask = drawn(seed)
    brightness = np.random.default_rng(seed).permutation(seeds.size).reshape(seeds.shape).astype(np.float32)
    mask[0, 0] = mask[-1, -1] = True
    brightness[0, 0], brightness[-1, -1] = 0, 65535  # a level for each
    theirs = segmentation.watershed(-brightness, seeds, mask=mask)
    np.testing.assert_array_equal(watershed(seeds, brightness, mask), theirs)


def test_a_real_field_is_that_of_a_loop_and_nearly_that_of_scikit_image():
    nuclei, cells = (ndi.gaussian_filter(channel[:200, :220], 1) for channel in real_field(1, "A01"))
    seeds = ndi.label(nuclei > threshold_otsu(nuclei))[0].astype(np.int32)
    assert seeds.max() > 10
    mask = (cells > np.median(cells)) | (seeds > 0)
    found = watershed(seeds, cells, mask)
    np.testing.assert_array_equal(found, naive(seeds, cells, mask))
    assert (found == segmentation.watershed(-cells, seeds, mask=mask))[mask].mean() > 0.999


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_the_unit_of_brightness_and_the_numbers_of_seeds_change_nothing(seed, gain, offset):
    seeds, brightness, mask = drawn(seed, shape=(12, 15))
    brightness = np.round(brightness * 20)
    found = watershed(seeds, brightness, mask)
    other = np.append(0, np.random.default_rng(seed).permutation(9) + 1).astype(np.int32)
    again = watershed(other[seeds], (gain * brightness.astype(np.float64) + offset).astype(np.float64), mask)
    np.testing.assert_array_equal(other[found], again)


def test_a_flat_stretch_is_shared_halfway():
    seeds = np.zeros((1, 12), np.int32)
    seeds[0, 0], seeds[0, -1] = 1, 2
    found = watershed(seeds, np.ones((1, 12), np.float32), np.ones((1, 12), bool))
    assert found[0].tolist() == [1] * 6 + [2] * 6


def test_what_no_seed_reaches_stays_empty():
    seeds, mask = np.zeros((5, 5), np.int32), np.ones((5, 5), bool)
    assert not watershed(seeds, np.ones((5, 5), np.float32), mask).any()
    seeds[0, 0], mask[2] = 4, False
    found = watershed(seeds, np.ones((5, 5), np.float32), mask)
    assert (found[:2] == 4).all() and not found[2:].any()
