"""Nuclei by threshold against images whose nuclei are known by construction, and against real fields."""

from functools import partial

import numpy as np
import pytest
from drawn import OTSU, assert_nuclei, disc, empty_fields, picture, real_field
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu
from skimage.io import imread
from skimage.segmentation import watershed

from plateline import metrics
from plateline.errors import ImageError
from plateline.segment.classical import _above_local, adaptive, find_peaks, otsu
from plateline.segment.labels import number_objects

METHODS = pytest.mark.parametrize("method", [otsu, partial(adaptive, window_px=51)], ids=["otsu", "adaptive"])


@METHODS
def test_discs_become_nuclei_in_raster_order(method):
    centers = [(20, 120), (30, 30), (80, 70)]
    labels = method(picture(centers)[None], **OTSU)
    assert_nuclei(labels["nuclei"], (120, 160))
    assert [labels["nuclei"][center] for center in centers] == [1, 2, 3]
    truth = disc((120, 160), 80, 70, 8)
    found = labels["nuclei"] == 3
    assert (found & truth).sum() / (found | truth).sum() > 0.9


@METHODS
def test_touching_nuclei_are_cut_and_one_nucleus_is_not(method):
    labels = method(picture([(50, 50), (50, 64), (90, 120)])[None], **OTSU)
    assert labels["nuclei"].max() == 3
    assert labels["nuclei"][50, 50] != labels["nuclei"][50, 64]
    assert method(picture([(50, 50), (50, 64)])[None], **(OTSU | {"min_distance_px": 15}))["nuclei"].max() == 1


@METHODS
def test_small_specks_go_and_small_holes_fill(method):
    image = picture([(50, 50)])
    image[disc(image.shape, 50, 50, 2)] = 10
    image += 100 * disc(image.shape, 90, 120, 2)
    labels = method(image[None], **(OTSU | {"smooth_px": 0.0}))
    assert labels["nuclei"].max() == 1
    assert labels["nuclei"][50, 50] == 1
    assert labels["nuclei"][90, 120] == 0


@METHODS
def test_the_middle_of_a_ring_of_nuclei_stays_background(method):
    ring = [(60 + 24 * np.sin(a), 80 + 24 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 10, endpoint=False)]
    labels = method(picture(ring)[None], **OTSU)
    assert labels["nuclei"].max() == 10
    assert labels["nuclei"][60, 80] == 0


@METHODS
@pytest.mark.parametrize("snr", [3.0, 6.0])
def test_faint_nuclei_are_found(snr, method):
    image = picture([(30, 30), (30, 90), (80, 60), (90, 130)])
    image = (image - 10) / 100 * snr + np.random.default_rng(1).normal(0, 1, image.shape)
    assert method(image[None].astype(np.float32), **OTSU)["nuclei"].max() == 4


@METHODS
@pytest.mark.parametrize("name", empty_fields())
def test_a_field_without_nuclei_has_no_objects(name, method):
    empty = empty_fields()[name]
    labels = method(np.stack([empty, empty]).astype(np.float32), **OTSU)
    assert_nuclei(labels["nuclei"], empty.shape)
    assert not labels["nuclei"].any()


@METHODS
def test_an_offset_changes_next_to_nothing(method):
    image = real_field(1, "A01")
    plain, shifted = method(image, **OTSU)["nuclei"], method(image + 100, **OTSU)["nuclei"]
    assert np.mean((plain > 0) != (shifted > 0)) < 0.002
    assert abs(int(plain.max()) - int(shifted.max())) <= 2


@METHODS
def test_nuclei_of_other_microscopes_are_mostly_found(data, method):
    paths = sorted((data / "dsb2018_fluo" / "val" / "images").iterdir())[::4]
    shares = []
    for path in paths:
        truth = imread(path.parents[1] / "masks" / path.name)
        found = method(imread(path).astype(np.float32)[None], **OTSU)["nuclei"]
        shares.append(metrics.f1(metrics.match(truth, found, (0.5,)))[0])
    assert np.median(shares) > 0.75


@METHODS
@pytest.mark.parametrize("shape", [(64, 64), (0, 64, 64), (1, 2, 8, 8)])
def test_an_image_without_channel_axis_is_refused(shape, method):
    with pytest.raises(ImageError, match=r"has shape .*; expected \(channel, y, x\)"):
        method(np.zeros(shape, np.float32), **OTSU)


@METHODS
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused(value, method):
    image = picture([(30, 30)])[None].copy()
    image[0, 5, 5] = value
    with pytest.raises(ImageError, match="1 pixels are not finite"):
        method(image, **OTSU)


def test_dim_nuclei_beside_bright_ones_are_found_by_the_local_threshold():
    image = picture([(30, 30), (30, 60)], shape=(200, 200)) * 8 + picture([(150, 150), (150, 180)], shape=(200, 200))
    found = adaptive(image[None], **OTSU, window_px=51)["nuclei"]
    assert found.max() == 4
    assert otsu(image[None], **OTSU)["nuclei"].max() == 2


def test_a_slope_of_light_widens_no_nucleus_under_the_local_threshold():
    centers = [(y, x) for y in range(20, 200, 40) for x in range(20, 200, 40)]
    slope = np.linspace(0, 30, 200, dtype=np.float32)
    truth = sum(disc((200, 200), *center, 8).astype(np.int32) * k for k, center in enumerate(centers, start=1))
    found = adaptive((picture(centers, shape=(200, 200)) + slope)[None], **OTSU, window_px=51)["nuclei"]
    assert metrics.match(truth, found, (0.8,))["tp"][0] == len(centers)


@METHODS
def test_one_object_over_nearly_the_whole_field_is_one(method):
    image = np.zeros((200, 220), np.float32)
    image[8:-8, 8:-8] = 100
    # A square has one middle; a window of the adaptive threshold is all nucleus there.
    nuclei = method(image[None], **(OTSU | {"min_distance_px": 40}))["nuclei"]
    assert_nuclei(nuclei, image.shape)
    assert nuclei.max() == 1
    assert abs((nuclei > 0).sum() - (image > 0).sum()) < 800


@METHODS
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (1, 40), (20, 20)])
def test_a_field_smaller_than_a_nucleus_or_a_tile_is_taken(method, shape):
    image = np.random.default_rng(0).integers(0, 200, shape).astype(np.float32)
    assert_nuclei(method(image[None], **OTSU, tile_px=512)["nuclei"], shape)


@METHODS
def test_more_nuclei_than_a_16_bit_number(method):
    image = np.full((800, 800), 10, np.float32)
    image[1::3, 1::3] = 100
    options = {"smooth_px": 0.0, "min_area_px": 1, "min_distance_px": 1}
    nuclei = method(image[None], **options)["nuclei"]
    assert nuclei.max() == (image > 50).sum() > 65_535
    assert_nuclei(nuclei, image.shape)


# the local threshold


def naive_above_local(channel, window):
    """Each pixel against the middle of the two means of its window, one window at a time."""
    threshold = threshold_otsu(channel)
    background = np.median(channel[channel <= threshold])
    floor = background + 0.3 * (threshold - background)
    mask, reach = channel > floor, window // 2
    wide = np.pad(channel.astype(np.float64), reach, "symmetric")
    for _ in range(2):
        above, found = np.pad(mask, reach, "symmetric"), np.zeros_like(mask)
        for y, x in np.ndindex(channel.shape):
            pixels, bright = wide[y : y + window, x : x + window], above[y : y + window, x : x + window]
            local = floor if bright.all() or not bright.any() else (pixels[bright].mean() + pixels[~bright].mean()) / 2
            found[y, x] = channel[y, x] > max(floor, local)
        mask = found
    return mask


@pytest.mark.parametrize(("index", "well"), [(1, "A01"), (54, "E06")])
def test_the_local_threshold_of_a_real_field_is_that_of_a_loop(index, well):
    channel = ndi.gaussian_filter(real_field(index, well)[0, :90, :110], 1.0, output=np.float32)
    found = _above_local(channel, 21)
    assert np.mean(found != naive_above_local(channel, 21)) < 0.001  # float32 sums against float64 ones
    assert 0.02 < found.mean() < 0.6


# peaks


def naive_peaks(height, pieces, reach):
    peaks, n = np.zeros(height.shape, np.int32), 0
    for y, x in np.argwhere(pieces > 0):
        window = [
            (height[j, i], -j, -i)
            for j, i in np.argwhere(pieces == pieces[y, x])
            if abs(j - y) <= reach and abs(i - x) <= reach
        ]
        if max(window) == (height[y, x], -y, -x):
            n += 1
            peaks[y, x] = n
    return peaks


@pytest.mark.parametrize("reach", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_peaks_are_those_of_a_loop(seed, reach):
    rng = np.random.default_rng(seed)
    height = rng.integers(0, 5, (15, 18)).astype(np.float32)  # many ties
    pieces = np.repeat(np.repeat(rng.integers(0, 4, (5, 6)), 3, 0), 3, 1).astype(np.int32)
    found = find_peaks(height, pieces, min_distance_px=reach)
    np.testing.assert_array_equal(found, naive_peaks(height, pieces, reach))
    assert set(np.unique(pieces[found > 0])) == set(np.unique(pieces)) - {0}


def test_peaks_of_real_nuclei_are_those_of_a_loop():
    image = real_field(1, "A01")[0, :70, :90]
    pieces = np.int32(image > 50)
    np.testing.assert_array_equal(find_peaks(image, pieces, min_distance_px=5), naive_peaks(image, pieces, 5))


# the split


def naive_split(mask, min_area, reach):
    """Holes, pieces, peaks and catchments by the plain tools."""
    holes, n = ndi.label(~mask)
    for hole in range(1, n + 1):
        if (holes == hole).sum() <= min_area:
            mask = mask | (holes == hole)
    pieces = ndi.label(mask)[0]
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask).astype(np.float32), 1.0)
    nuclei = watershed(-distance, naive_peaks(distance, pieces, reach), mask=mask)
    for number in np.unique(nuclei):
        if (nuclei == number).sum() < min_area:
            nuclei[nuclei == number] = 0
    return number_objects(nuclei)


@pytest.mark.parametrize(("index", "well"), [(1, "A01"), (54, "E06")])
def test_the_split_of_real_nuclei_is_that_of_the_plain_tools(index, well):
    image = real_field(index, well)[0, :150, :150]
    smooth = ndi.gaussian_filter(image, 1.0, output=np.float32)
    expected = naive_split(smooth > threshold_otsu(smooth), OTSU["min_area_px"], OTSU["min_distance_px"])
    np.testing.assert_array_equal(otsu(image[None], **OTSU)["nuclei"], expected)
    assert expected.max() > 5
