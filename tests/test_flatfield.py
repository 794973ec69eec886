"""Flat field: a known illumination is found again, a flat one stays flat, and real fields are not harmed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from plateline.errors import ImageError
from plateline.flatfield import correct, median, none, residual, sample_fields
from plateline.layouts.pattern import read_plane

BBBC013 = Path(__file__).parents[1] / "resources" / "bbbc013" / "images"


def fields_of(n, shape=(96, 128), seed=0):
    """Fields of Poisson noise around 200 counts."""
    return np.random.default_rng(seed).poisson(200, (n, *shape)).astype(np.uint16)


def vignette(shape=(96, 128), depth=0.4):
    y, x = (np.linspace(-1, 1, size) for size in shape)
    light = 1 - depth * (y[:, None] ** 2 + x**2) / 2
    return light / light.mean()


@pytest.fixture(scope="module")
def dna():
    """All 96 DNA fields of the real plate, (N, Y, X)."""
    return np.stack([read_plane(BBBC013, file.name, 0) for file in sorted(BBBC013.glob("Channel2-*.tif"))])


def naive_median(images, bin_px):
    """Binned, mean-normalised median by loops, before smoothing."""
    blocks_y, blocks_x = (-(-size // bin_px) for size in images.shape[1:])
    result = np.zeros((blocks_y, blocks_x))
    for i in range(blocks_y):
        for j in range(blocks_x):
            window = np.s_[i * bin_px : (i + 1) * bin_px, j * bin_px : (j + 1) * bin_px]
            result[i, j] = np.median([image[window].mean() / image.mean() for image in images])
    return result


def naive_enlarge(binned, shape, bin_px):
    at = [
        np.clip((np.arange(size) + 0.5) / bin_px - 0.5, 0, n - 1) for size, n in zip(shape, binned.shape, strict=True)
    ]
    rows = np.array([np.interp(at[1], np.arange(binned.shape[1]), row) for row in binned])
    return np.array([np.interp(at[0], np.arange(binned.shape[0]), column) for column in rows.T]).T


@pytest.mark.parametrize(("shape", "bin_px"), [((24, 32), 8), ((25, 30), 8), ((7, 5), 1), ((10, 10), 64)])
def test_median_equals_a_naive_loop(shape, bin_px):
    images = fields_of(5, shape)
    smooth = ndimage.gaussian_filter(naive_median(images, bin_px), 4 / bin_px, mode="reflect")
    expected = naive_enlarge(smooth, shape, bin_px)
    illum, dark = median(images, bin_px=bin_px, smooth_px=4)
    np.testing.assert_allclose(illum, expected / expected.mean(), rtol=1e-5)
    assert illum.shape == dark.shape == shape
    assert illum.dtype == dark.dtype == np.float32
    assert not dark.any()


def test_median_equals_a_naive_loop_on_real_fields(dna):
    expected = naive_enlarge(naive_median(dna[:5], 64), (640, 640), 64)
    illum, _ = median(dna[:5], bin_px=64, smooth_px=0)
    np.testing.assert_allclose(illum, expected / expected.mean(), rtol=1e-5)


def test_a_known_illumination_is_found_again():
    truth = vignette()
    images = np.round(fields_of(20) * truth).astype(np.uint16)
    illum, dark = median(images, bin_px=4, smooth_px=2)
    assert illum.mean() == pytest.approx(1, abs=1e-6)
    error = np.abs(illum / truth - 1)
    assert error[8:-8, 8:-8].max() < 0.02
    assert error.max() < 0.06, "the mirrored edge is flatter than the truth"
    before, after = residual(images, illum, dark, bin_px=8)
    assert after < before / 5


def test_brightness_and_order_of_the_fields_do_not_matter():
    images = fields_of(9).astype(float)
    illum, _ = median(images, bin_px=8, smooth_px=16)
    gains = np.linspace(0.1, 10, 9)[:, None, None]
    np.testing.assert_allclose(median((images * gains)[::-1], bin_px=8, smooth_px=16)[0], illum, rtol=1e-6)
    np.testing.assert_allclose(median(images.swapaxes(1, 2), bin_px=8, smooth_px=16)[0], illum.T, rtol=1e-6)


@pytest.mark.parametrize("images", [fields_of(0), fields_of(2), np.zeros((9, 96, 128), np.uint8)])
def test_too_few_fields_with_light_give_a_flat_one(images):
    illum, dark = median(images, bin_px=8, smooth_px=16)
    assert (illum == 1).all()
    assert not dark.any()
    assert illum.shape == (96, 128)


def test_fields_without_light_or_with_nan_do_not_count():
    images = fields_of(5).astype(float)
    dull = np.concatenate([images, np.zeros((1, 96, 128)), np.full((1, 96, 128), np.nan)])
    np.testing.assert_array_equal(median(dull, bin_px=8, smooth_px=8)[0], median(images, bin_px=8, smooth_px=8)[0])


def test_none_is_flat_and_changes_nothing():
    images = fields_of(3)
    illum, dark = none(images, bin_px=8)
    np.testing.assert_array_equal(correct(images, np.stack([illum] * 3), np.stack([dark] * 3)), images)
    before, after = residual(images, illum, dark, bin_px=8)
    assert before == pytest.approx(after)


def test_correct_keeps_what_lies_below_the_dark_level():
    image = np.array([[[0, 10], [20, 30]]], np.uint8)
    illum = np.array([[[0.5, 1], [2, 1]]], np.float32)
    dark = np.full((1, 2, 2), 10, np.float32)
    corrected = correct(image, illum, dark)
    assert corrected.dtype == np.float32
    np.testing.assert_array_equal(corrected, [[[-20, 0], [5, 20]]])
    assert image.dtype == np.uint8, "the raw field stays as it was"
    assert image[0, 0, 0] == 0


def test_correct_refuses_fields_of_another_shape():
    ones = np.ones((2, 4, 4), np.float32)
    with pytest.raises(ImageError, match=r"shape \(C, Y, X\) = \(1, 4, 4\), its illumination \(2, 4, 4\)"):
        correct(ones[:1], ones, ones)
    with pytest.raises(ImageError, match=r"dark level \(2, 3, 4\); expected equal shapes"):
        correct(ones, ones, ones[:, :3])


def test_residual_of_nothing_is_nan():
    illum, dark = none(fields_of(0))
    assert np.isnan(residual(fields_of(0), illum, dark, bin_px=8)).all()


def test_real_fields_are_more_even_on_fields_that_were_not_seen(dna):
    illum, dark = median(dna[::2], bin_px=64, smooth_px=80)
    assert illum.min() > 0.75
    assert illum.max() < 1.25
    before, after = residual(dna[1::2], illum, dark, bin_px=64)
    assert after < before


def test_real_fields_under_a_drawn_vignette_get_back_most_of_it(dna):
    truth = vignette((640, 640), 0.5)
    own, _ = median(dna, bin_px=64, smooth_px=80)
    drawn, _ = median(dna * truth.astype(np.float32), bin_px=64, smooth_px=80)
    found = drawn / own
    assert (found / truth / np.mean(found / truth)).std() < truth.std() / 2


def test_the_sample_depends_on_the_fields_not_on_their_order():
    fields = pd.DataFrame(
        {"Metadata_Plate": "P1", "Metadata_Well": [f"{r}{c:02d}" for r in "ABCD" for c in range(1, 13)]}
    ).assign(Metadata_Site=1, Metadata_Timepoint=0, path="x")
    sample = sample_fields(fields, max_fields=10, seed=0)
    shuffled = fields.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(sample_fields(shuffled, max_fields=10, seed=0), sample)
    assert len(sample) == sample["Metadata_Well"].nunique() == 10
    assert sample["Metadata_Well"].is_monotonic_increasing
    assert not sample.equals(sample_fields(fields, max_fields=10, seed=1))
    pd.testing.assert_frame_equal(sample_fields(shuffled, max_fields=99, seed=0), fields)
    assert list(sample_fields(fields.iloc[:0], max_fields=10, seed=0).columns) == list(fields.columns)
