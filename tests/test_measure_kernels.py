"""Compiled kernels against naive loops: sorting, distances, hulls, co-occurrence, reconstruction, Costes' search."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import as_all, measure, random_field, with_settings
from scipy import ndimage as ndi
from skimage.morphology import disk, erosion, reconstruction

from plateline.measure import costes, distance, granularity, hull, links, neighbors, texture, zernike
from plateline.measure.names import ZERNIKES
from plateline.measure.pixels import list_pixels, sort_keys, take_values

SEEDS = range(4)


def blobs(seed, shape=(40, 47)):
    """Touching objects of all shapes, some in pieces, and two channels of 8 bits."""
    rng = np.random.default_rng(seed)
    clouds = ndi.gaussian_filter(rng.random((4, *shape)), (0, 3, 3)).argmax(axis=0)
    labels = np.where(rng.random(shape) < 0.95, clouds * 2, 0).astype(np.int32)
    return rng.integers(0, 256, (2, *shape)).astype(np.float32) / 255, labels


def listed(labels):
    numbers = np.unique(labels[labels > 0])
    return list_pixels(labels, numbers), numbers


# pixels


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_are_those_of_each_object_in_reading_order(seed):
    image, labels = blobs(seed)
    pixels, numbers = listed(labels)
    values = take_values(pixels, image)
    for row, number in enumerate(numbers):
        y, x = np.nonzero(labels == number)
        here = slice(pixels.start[row], pixels.start[row + 1])
        assert pixels.y[here].tolist() == y.tolist()
        assert pixels.x[here].tolist() == x.tolist()
        assert pixels.box[row].tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]
        for channel, plane in enumerate(image):
            expected = plane[y, x]
            assert values.values[channel, here].tolist() == expected.tolist()
            assert values.ordered[channel, here].tolist() == sorted(expected.tolist())
            assert values.rank[channel, here].tolist() == np.unique(expected, return_inverse=True)[1].tolist()


def test_an_object_without_pixels_has_none_in_the_list():
    pixels = list_pixels(np.int32([[0, 7, 7], [9, 0, 0]]), np.int32([3, 7, 9]))
    assert pixels.area.tolist() == [0, 2, 1]
    assert pixels.box.tolist() == [[0, 0, 0, 0], [0, 1, 1, 3], [1, 0, 2, 1]]
    assert not take_values(pixels, np.ones((1, 2, 3), np.float32)).known[0, 0]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 300), bits=st.integers(1, 32), seed=st.integers(0, 2**32 - 1))
def test_keys_sort_by_their_upper_half(n, bits, seed):
    upper = np.random.default_rng(seed).integers(0, 2**bits, n).astype(np.uint64)
    keys = upper << np.uint64(32) | np.arange(n, dtype=np.uint64)
    assert sort_keys(keys.copy()).tolist() == sorted(keys.tolist())


# distances


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bounded", [True, False])
def test_distances_to_the_outside_are_those_of_each_mask(seed, bounded):
    labels = blobs(seed)[1]
    pixels, numbers = listed(labels)
    for row, number in enumerate(numbers):
        mask = np.pad(labels == number, 1) if bounded else labels == number
        expected = ndi.distance_transform_edt(mask)[mask]
        np.testing.assert_allclose(np.sqrt(distance.to_outside(pixels, row, bounded)), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_ways_from_the_centre_are_the_shortest_inside_the_object(seed):
    labels = blobs(seed)[1]
    pixels, numbers = listed(labels)
    for row in range(len(numbers)):
        y, x = (place[pixels.start[row] : pixels.start[row + 1]] for place in (pixels.y, pixels.x))
        steps = np.hypot(y[:, None] - y, x[:, None] - x)
        steps[steps > 1.5] = np.inf
        expected = np.where(np.arange(y.size) == 3, 0, np.inf)
        for _ in range(y.size):  # one more step each time, until nothing gets shorter
            shorter = np.minimum(expected, (expected[:, None] + steps).min(axis=0))
            if (shorter == expected).all():
                break
            expected = shorter
        np.testing.assert_allclose(distance.from_centre(pixels, row, 3), expected)


# hulls


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hull_holds_all_pixels_and_a_circle_all_corners(seed):
    labels = random_field(seed)[1]["cells"]
    pixels, numbers = listed(labels)
    for row, number in enumerate(numbers):
        y, x = hull.hull_of(pixels, row)
        places = np.argwhere(labels == number)
        for a in range(y.size):
            b = (a + 1) % y.size
            side = (x[b] - x[a]) * (places[:, 0] - y[a]) - (y[b] - y[a]) * (places[:, 1] - x[a])
            assert (side >= 0).all()
        centre_y, centre_x, radius = hull.enclosing_circle(y, x)
        away = np.hypot(places[:, 0] - centre_y, places[:, 1] - centre_x)
        assert away.max() == pytest.approx(radius)
        assert (away > radius - 1e-6).sum() >= 2
        longest = max(np.hypot(*(p - q)) for p, q in combinations(places, 2))
        turned = [np.ptp(places @ [np.sin(angle), np.cos(angle)]) for angle in np.linspace(0, np.pi, 3601)]
        narrow, wide = hull.feret_diameters(y, x)
        assert wide == pytest.approx(longest)
        assert narrow == pytest.approx(min(turned), abs=0.03)


@pytest.mark.parametrize(("shape", "corners"), [((1, 1), 1), ((1, 6), 2), ((5, 1), 2), ((3, 4), 4)])
def test_a_flat_hull_has_as_few_corners_as_it_needs(shape, corners):
    pixels, _ = listed(np.pad(np.ones(shape, np.int32), 2))
    assert len(hull.hull_of(pixels, 0)[0]) == corners


# texture


def naive_haralick(grey, mask, step):
    """Haralick's features from the whole matrix of pairs."""
    top = grey[mask].max()
    pairs = np.zeros((top + 1, top + 1))
    for y, x in np.argwhere(mask):
        other = (y + step[0], x + step[1])
        inside = 0 <= other[0] < mask.shape[0] and 0 <= other[1] < mask.shape[1]
        if inside and mask[other] and grey[y, x] and grey[other]:
            pairs[grey[y, x], grey[other]] += 1
            pairs[grey[other], grey[y, x]] += 1
    p = pairs / pairs.sum()
    level, (i, j) = p.sum(axis=0), np.indices(p.shape)
    plus, minus = (np.bincount(index.ravel(), p.ravel()) for index in (i + j, abs(i - j)))

    def entropy(share):
        return -(share[share > 0] * np.log2(share[share > 0])).sum()

    def variance(share):
        at = np.arange(share.size)
        return (share * (at - (share * at).sum()) ** 2).sum()

    mean, spread, of_level = (level * np.arange(top + 1)).sum(), variance(level), entropy(level)
    return [
        *((p**2).sum(), (p * (i - j) ** 2).sum(), ((p * i * j).sum() - mean**2) / spread, spread),
        *((p / (1 + (i - j) ** 2)).sum(), (plus * np.arange(plus.size)).sum(), variance(plus), entropy(plus)),
        *(entropy(p), minus.var(), entropy(minus), (entropy(p) - 2 * of_level) / of_level),
        np.sqrt(1 - np.exp(-2 * (2 * of_level - entropy(p)))),
    ]


@pytest.mark.parametrize("levels", [256, 7])
def test_texture_is_that_of_the_whole_matrix(levels):
    image, labels = blobs(0)
    pixels, numbers = listed(labels)
    chosen = with_settings(texture_levels=levels, texture_scales=[2], texture_directions=[3, 0])
    found = texture.measure_texture(pixels, take_values(pixels, image), chosen)
    grey = np.rint(image * 255).astype(int)
    grey = grey if levels == 256 else (grey / 255 * (levels - 1)).astype(int)
    for channel in range(2):
        for row, number in enumerate(numbers):
            for place, step in enumerate([(2, -2), (0, 2)]):
                expected = naive_haralick(grey[channel], labels == number, step)
                np.testing.assert_allclose(found[channel, 0, place, :, row], expected, rtol=1e-9, atol=1e-9)


def test_a_direction_without_pairs_gives_the_object_up_whichever_is_wanted():
    row_of_pixels = np.zeros((5, 12), np.int32)
    row_of_pixels[2, 2:10] = 1
    image = np.random.default_rng(0).random((1, 5, 12), np.float32)
    table = measure(image, as_all(row_of_pixels), ["DNA"], families=["Texture"], texture_directions=[0])
    assert table.filter(like="_Texture_").isna().all(axis=None)


def test_what_is_above_full_scale_is_clipped_for_texture_only_and_counted():
    image, labels = blobs(1)
    pixels, _ = listed(labels)
    values = take_values(pixels, image * 2)
    assert texture.count_clipped(values) == [int(((plane * 2 > 1) & (labels > 0)).sum()) for plane in image]
    clipped = measure(np.minimum(image * 2, 1), as_all(labels), ["A", "B"], families=["Texture", "Intensity"])
    bright = measure(image * 2, as_all(labels), ["A", "B"], families=["Texture", "Intensity"])
    textures = bright.columns[bright.columns.str.contains("_Texture_")]
    assert bright[textures].equals(clipped[textures])
    assert (bright["Cells_Intensity_MaxIntensity_A"] > 1).any()


# granularity


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(20, 31), (2, 9), (33, 33)])
def test_steps_of_granularity_are_erosions_and_reconstructions(seed, shape):
    rng = np.random.default_rng(seed)
    field = np.round(ndi.gaussian_filter(rng.random(shape), seed), 3)
    left = np.empty((5, *shape))
    granularity._reconstruct(*granularity._rank(field), left)
    eroded = field
    for step in left:
        eroded = erosion(eroded, disk(1))
        np.testing.assert_array_equal(step, reconstruction(eroded, field, footprint=disk(1)))


@pytest.mark.parametrize("radius", [1, 3, 10])
def test_the_disk_of_lines_is_the_disk(radius):
    field = np.random.default_rng(radius).random((30, 41))
    np.testing.assert_array_equal(granularity._erode(field, radius), erosion(field, disk(radius)))


@pytest.mark.parametrize("size", [9, 40])
def test_resampling_is_bilinear(size):
    field = np.random.default_rng(size).random((size, 17))
    places = [np.linspace(0, size - 1, 23), np.linspace(-0.5, 16.5, 11)]
    expected = ndi.map_coordinates(field, np.meshgrid(*places, indexing="ij"), order=1)
    np.testing.assert_allclose(granularity._resample(field, places), expected, atol=1e-12)


def test_a_field_too_small_to_thin_out_has_no_spectrum():
    image, labels = blobs(0, shape=(7, 7))
    assert (
        measure(image, as_all(labels), ["A", "B"], families=["Granularity"]).filter(like="_Granu").isna().all(axis=None)
    )


# costes


def naive_search(u, v, slope, offset, grid):
    """CellProfiler's bisection, with all pixels looked at in every step."""
    left, right, last, valid = 1.0, float(grid), 0.0, None
    middle = (right - left) // (6 / 5) + left
    while last != middle:
        low = (u < middle / grid) | (v < slope * (middle / grid) + offset)
        known = low.sum() > 2 and np.ptp(u[low]) > 0 and np.ptp(v[low]) > 0
        if known and np.cov(u[low], v[low])[0, 1] >= 0:
            right, valid = middle + 1, middle
        else:
            left = middle - 1
        last = middle
        middle = (right - left) // (6 / 5 if right - left > 6 else 2) + left
    return -1 if valid is None else valid - 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), grid=st.sampled_from([255, 4095, 65535]), tilt=st.floats(-2, 2))
def test_costes_search_ends_where_the_plain_one_does(seed, grid, tilt):
    rng = np.random.default_rng(seed)
    u = rng.random(80)
    v = np.clip(0.5 + tilt * (u - 0.5) + rng.normal(0, 0.3, 80), 0, 1)
    u, v = (np.rint(x * 255).astype(np.float32) / np.float32(255) for x in (u, v))
    slope, offset = costes._fit(u, v)
    expected = naive_search(u.astype(float), v.astype(float), slope, offset, grid)
    assert costes._search(u, v, slope, offset, float(grid)) == expected


@pytest.mark.parametrize("u", [np.zeros(9), np.full(9, 0.5), np.array([0.1, 0.2])])
def test_costes_has_no_line_through_too_little(u):
    assert np.isnan(
        costes._coefficients(u.astype(np.float32), np.linspace(0, 1, u.size, dtype=np.float32), 255.0)
    ).all()


# neighbours and links


@pytest.mark.parametrize("reach", [0, 1, 4, 7])
def test_neighbours_are_those_a_disk_reaches(reach):
    labels = np.kron(
        random_field(reach, shape=(9, 11), numbers=(0, 0, 0, 1, 2, 3, 4))[1]["cells"], np.ones((3, 3), int)
    )
    pixels, numbers = listed(labels.astype(np.int32))
    count, percent = neighbors.measure_neighbors(pixels, [reach])[0, :2]
    y, x = np.mgrid[-8:9, -8:9]
    near, touching = (x**2 + y**2 <= radius**2 for radius in (max(reach, 1), max(reach, 1) + 0.5))
    for row, number in enumerate(numbers):
        mask = labels == number
        inside = ndi.binary_erosion(mask, np.ones((3, 3)))
        assert count[row] == len(set(labels[ndi.binary_dilation(mask, near)]) - {0, number})
        others = ndi.binary_dilation((labels > 0) & ~mask, touching)
        assert percent[row] == pytest.approx(100 * (others & mask & ~inside).sum() / (mask & ~inside).sum())


def test_a_lone_object_has_no_neighbour_and_two_have_no_angle():
    labels = np.zeros((9, 20), np.int32)
    labels[2:5, 2:5] = 1
    assert np.isnan(neighbors.measure_neighbors(listed(labels)[0], [0])[0, 2:]).all()
    labels[2:5, 12:15] = 2
    found = neighbors.measure_neighbors(listed(labels)[0], [0])[0]
    assert found[2].tolist() == [10, 10]
    assert np.isnan(found[3:]).all()


def test_the_parent_is_the_object_with_most_of_the_child():
    parents = np.int32([[1, 1, 1, 2, 2, 2, 0], [0, 0, 3, 3, 0, 0, 0]])
    children = np.int32([[0, 1, 1, 1, 2, 2, 9], [3, 3, 3, 3, 9, 9, 9]])
    numbers = np.int32([1, 2, 3, 9])
    found = links.link_parents(list_pixels(children, numbers), list_pixels(parents, numbers))
    assert found.tolist() == [1, 2, 3, 0]


# zernike


def test_zernike_moments_are_sums_of_the_polynomials():
    image, labels = blobs(2)
    pixels, numbers = listed(labels)
    magnitude, phase = zernike.intensity_moments(pixels, take_values(pixels, image).values)
    y, x = np.nonzero(labels == numbers[1])
    centre_y, centre_x, radius = hull.enclosing_circle(*hull.hull_of(pixels, 1))
    z = (y - centre_y) / radius + 1j * (x - centre_x) / radius
    light = image[0][y, x] * ((z.imag * z.imag + z.real * z.real) <= 1)
    for place, (n, m) in enumerate(ZERNIKES):
        radial = np.polyval(zernike_coefficients(n, m), np.abs(z))
        moment = (light * radial * np.exp(1j * m * np.angle(z))).sum()
        assert magnitude[0, place, 1] == pytest.approx(abs(moment) / y.size)
        turned = np.arctan2(moment.real, moment.imag) if m else np.arctan2(moment.real, 0)
        assert np.exp(1j * phase[0, place, 1]) == pytest.approx(np.exp(1j * turned))


def zernike_coefficients(n, m):
    """Coefficients of the radial polynomial, highest power first, by its recurrence in n (Kintner's check at 1)."""
    from math import comb

    coefficients = np.zeros(n + 1)
    for k in range((n - m) // 2 + 1):
        coefficients[2 * k] = (-1) ** k * comb(n - k, k) * comb(n - 2 * k, (n - m) // 2 - k)
    assert coefficients.sum() == 1
    return coefficients
