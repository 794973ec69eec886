"""Target maps and their decoders: against naive loops, on drawn and on real nuclei."""

import numpy as np
import pytest
import torch
from drawn import real_labels
from scipy import ndimage as ndi
from skimage.draw import disk
from skimage.measure import label

from plateline import metrics
from plateline.models import flow, stardist
from plateline.models.depth import depth, importance, numbered, object_max, object_sums
from plateline.models.fit import TARGETS
from plateline.models.flood import flood


def drawn_labels(seed=0, side=64, count=12):
    """Discs of several sizes, some of which touch, one cut by the edge."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int64)
    for number in range(1, count + 1):
        rows, columns = disk(rng.uniform(0, side, 2), rng.uniform(2, 9), shape=labels.shape)
        free = labels[rows, columns] == 0
        labels[rows[free], columns[free]] = number * 3  # with gaps
    return labels


def as_batch(labels):
    return torch.from_numpy(np.ascontiguousarray(labels).astype(np.int64))[None]


# --- depth


def naive_depth(labels):
    deep = np.zeros(labels.shape, np.float32)
    for place in zip(*np.nonzero(labels > 0), strict=True):
        foreign = np.argwhere((labels != labels[place]) & (labels != -1))
        away = np.hypot(*(foreign - place).T).min() if len(foreign) else np.inf
        deep[place] = min(away, 32)
    return deep


@pytest.mark.parametrize("seed", range(3))
def test_depth_is_the_distance_to_the_nearest_pixel_of_another_object(seed):
    labels = drawn_labels(seed, side=40)
    labels[:, 33:] = -1
    # A foreign pixel in line with an unknown one is not seen; it lies further away than the way out of these objects.
    np.testing.assert_allclose(depth(as_batch(labels))[0].numpy(), naive_depth(labels), rtol=1e-6)


def test_depth_does_not_end_at_the_edge_and_is_bounded():
    labels = np.zeros((90, 90), np.int64)
    labels[:, 10:] = 4
    deep = depth(as_batch(labels))[0].numpy()
    assert deep[0, 12] == deep[45, 12] == 3
    assert deep.max() == deep[45, 80] == 32
    np.testing.assert_array_equal(depth(as_batch(labels), deepest=3)[0].numpy(), deep.clip(max=3))
    assert not depth(as_batch(np.zeros((5, 5)))).any()


def test_sums_and_largest_values_over_objects():
    labels = torch.from_numpy(np.stack([drawn_labels(1), drawn_labels(2)]))
    values = torch.rand(labels.shape)
    number, count = numbered(labels)
    sums, most = object_sums(number, count, values), object_max(number, count, values)
    for crop in range(2):
        for found in np.unique(labels[crop][labels[crop] > 0]):
            here = labels[crop] == int(found)
            own = int(number[crop][here][0])
            assert float(sums[own]) == pytest.approx(float(values[crop][here].sum()), rel=1e-5)
            assert float(most[own]) == float(values[crop][here].max())
    assert sums[0] == most[0] == 0


def test_small_objects_weigh_more_and_unknown_pixels_nothing():
    labels = np.zeros((80, 80), np.int64)
    labels[2:6, 2:6], labels[20:60, 20:60], labels[70:] = 1, 2, -1
    weight = importance(as_batch(labels), diameter_px=20.0)[0]
    assert weight[3, 3] == 3
    assert weight[30, 30] == 0.5
    assert weight[10, 10] == 1
    assert weight[75, 0] == 0


# --- flooding


def naive_flood(height, mask, prominence):
    """The same rule, told pixel by pixel over Python sets."""
    level = np.clip(np.rint(height * 1023), 0, 1023).astype(int)
    least = round(prominence * 1023)
    order = sorted(zip(*np.nonzero(mask), strict=True), key=lambda p: (-level[p], p))
    basin, peak, joined = {}, {}, {}

    def root(name):
        while joined[name] != name:
            name = joined[name]
        return name

    for y, x in order:
        around = [(b, a) for b in (y - 1, y, y + 1) for a in (x - 1, x, x + 1) if (b, a) in basin]
        if around:
            best = max(level[p] for p in around)
            basin[y, x] = basin[next(p for p in around if level[p] == best)]
        else:
            basin[y, x] = len(peak) + 1
            peak[basin[y, x]], joined[basin[y, x]] = level[y, x], basin[y, x]
        for place in around:
            one, other = root(basin[y, x]), root(basin[place])
            if one != other and min(peak[one], peak[other]) < level[y, x] + least:
                low, top = (one, other) if peak[one] < peak[other] else (other, one)
                joined[low] = top
    labels, numbers = np.zeros(mask.shape, np.int32), {}
    for place in sorted(basin):
        labels[place] = numbers.setdefault(root(basin[place]), len(numbers) + 1)
    return labels


@pytest.mark.parametrize("prominence", [0.0, 0.1, 0.5])
def test_flooding_follows_its_rule(prominence):
    rng = np.random.default_rng(1)
    height = ndi.gaussian_filter(rng.random((40, 50)), 2).astype(np.float32)
    height = (height - height.min()) / np.ptp(height)
    mask = ndi.gaussian_filter(rng.random((40, 50)), 1.5) > 0.5
    np.testing.assert_array_equal(flood(height, mask, prominence), naive_flood(height, mask, prominence))


def test_flooding_labels_the_whole_mask_and_nothing_else():
    height, mask = np.zeros((9, 9), np.float32), np.zeros((9, 9), bool)
    assert flood(height, mask, 0.1).max() == 0
    mask[1:3, 1:3], mask[5:8, 5:8] = True, True
    found = flood(height, mask, 0.1)
    np.testing.assert_array_equal(found > 0, mask)
    assert found.max() == 2


def test_peaks_are_parted_by_their_prominence():
    height = np.array([[0.9, 0.7, 0.8, 0.2, 0.6]], np.float32)
    mask = np.ones((1, 5), bool)
    assert flood(height, mask, 0.05).tolist() == [[1, 1, 2, 2, 3]]
    assert flood(height, mask, 0.2).max() == 2
    assert flood(height, mask, 0.5).max() == 1


# --- flow


def naive_walk(maps, mask, steps):
    """Where each pixel of the mask comes to rest, by plain bilinear interpolation."""
    ends = []
    for place in zip(*np.nonzero(mask), strict=True):
        y, x = (np.float32(part) for part in place)
        for _ in range(steps):
            dy, dx = (ndi.map_coordinates(axis, [[y], [x]], order=1, mode="nearest")[0] for axis in maps)
            size = np.hypot(dy, dx)
            if size < 0.05:
                break
            y = np.clip(y + dy / max(size, 1), 0, mask.shape[0] - 1)
            x = np.clip(x + dx / max(size, 1), 0, mask.shape[1] - 1)
        ends.append((round(float(y)), round(float(x))))
    return ends


def test_pixels_walk_along_the_field():
    labels = drawn_labels(3, side=48, count=6)
    maps = flow.encode(as_batch(labels))[0].numpy()
    found = flow.decode(maps, threshold=0.5, steps=40)
    ends = naive_walk(maps[1:].astype(np.float64), labels > 0, 40)
    rest = np.zeros(labels.shape, int)
    np.add.at(rest, tuple(np.array(ends).T), 1)
    pools = label(rest > 0, connectivity=2)
    expected = np.zeros(labels.shape, int)
    for place, end in zip(zip(*np.nonzero(labels), strict=True), ends, strict=True):
        pool = pools[end]
        expected[place] = pool if rest[pools == pool].sum() >= 5 else 0
    assert metrics.match(expected, found, [0.95])[["fp", "fn"]].to_numpy().sum() == 0


def test_steps_point_at_the_own_pixel_nearest_to_the_mean():
    labels = np.zeros((30, 30), np.int64)
    labels[5:20, 5:9] = labels[16:20, 5:25] = 7  # an L whose mean lies outside it
    maps = flow.encode(as_batch(labels))[0].numpy()
    inside = np.argwhere(labels == 7)
    middle = inside[np.argmin(((inside - inside.mean(0)) ** 2).sum(1))]
    for place in inside[::7]:
        away = middle - place
        expected = away / max(np.hypot(*away), 3)
        np.testing.assert_allclose(maps[1:, place[0], place[1]], expected, atol=1e-5)
    assert not maps[:, labels == 0].any()


# --- stardist


def test_rays_end_before_the_first_foreign_pixel():
    labels = drawn_labels(4, side=32, count=5)
    maps = stardist.encode(as_batch(labels))[0].numpy()
    steps = stardist.directions()
    for y, x in np.argwhere(labels[::2, ::2] > 0)[::9]:
        for ray, step in enumerate(steps):
            length = 0
            while True:
                b, a = np.rint(np.array([2 * y, 2 * x]) + (length + 1) * step).astype(int)
                if not (0 <= b < 32 and 0 <= a < 32) or labels[b, a] != labels[2 * y, 2 * x]:
                    break
                length += 1
            assert maps[1 + ray, y, x] == length


def naive_suppress(maps, threshold, overlap):
    """Polygons drawn one after the other with the even-odd rule, pixel by pixel."""
    shape = (2 * maps.shape[1], 2 * maps.shape[2])
    labels, count = np.zeros(shape, int), 0
    candidates = sorted(np.argwhere(maps[0] > threshold), key=lambda p: (-maps[0][tuple(p)], *p))
    for y, x in candidates:
        if labels[2 * y, 2 * x]:
            continue
        corners = np.array([2 * y, 2 * x]) + (maps[1:, y, x, None] + np.float32(0.5)) * stardist.directions()
        inside = np.zeros(shape, bool)
        for row in range(shape[0]):
            crossings = []
            for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, 0), strict=True):
                if (y0 <= row) != (y1 <= row):
                    crossings.append(x0 + (row - y0) / (y1 - y0) * (x1 - x0))
            for start, end in zip(sorted(crossings)[::2], sorted(crossings)[1::2], strict=True):
                inside[row, max(int(np.ceil(start)), 0) : max(int(np.floor(end)) + 1, 0)] = True
        if inside.any() and (labels[inside] > 0).sum() <= overlap * inside.sum():
            count += 1
            labels[inside & (labels == 0)] = count
    return labels


def test_polygons_are_suppressed_as_they_are_drawn():
    rng = np.random.default_rng(5)
    maps = stardist.encode(as_batch(drawn_labels(5, side=40, count=7)))[0].numpy()
    maps = (maps + rng.normal(0, 0.2, maps.shape)).astype(np.float32)
    maps[1:] = maps[1:].clip(0)
    found = stardist.decode(maps, threshold=0.4, overlap=0.3)
    expected = naive_suppress(maps, 0.4, 0.3)
    assert (found != expected).mean() < 2e-3  # float32 against float64 where a line runs through a pixel's middle
    assert found.max() == expected.max()


# --- all


@pytest.mark.parametrize("method", TARGETS)
def test_labels_come_back_from_their_own_maps(method):
    target = TARGETS[method]
    for labels in real_labels():
        even = labels[: labels.shape[0] // 2 * 2, : labels.shape[1] // 2 * 2]
        found = target.decode(target.encode(as_batch(even))[0].numpy(), **target.options)
        assert found.shape == even.shape
        assert found.dtype == np.int32
        assert metrics.average_precision(metrics.match(even, found, [0.5])).min() >= 0.85


@pytest.mark.parametrize("method", TARGETS)
@pytest.mark.parametrize("axis", [1, 2])
def test_maps_of_a_mirrored_image_are_mirrored_maps(method, axis):
    target = TARGETS[method]
    # With 33 pixels a side the pixels that coarse maps stand for are mirrored onto each other.
    labels = np.zeros((33, 33), np.int64)
    labels[6:17, 10:23], labels[18:30, 12:20] = 1, 2
    maps = target.encode(as_batch(labels))[0]
    again = target.mirror(target.encode(as_batch(np.flip(labels, axis - 1)))[0].flip(axis), axis)
    keep = [channel for channel in range(target.maps) if not torch.allclose(maps[channel], again[channel], atol=1e-5)]
    # A middle between two pixels falls to the first of them, before and after.
    assert method == "flow" or keep == []
    assert method != "flow" or (maps - again).abs().mean() < 0.1


@pytest.mark.parametrize("method", TARGETS)
def test_the_right_maps_cost_less_than_wrong_ones(method):
    target = TARGETS[method]
    labels = as_batch(drawn_labels(7, side=64))
    wanted, weight = target.encode(labels), importance(labels, diameter_px=12.0)
    from plateline.models.loss import Foreground

    judge = Foreground(focal=0.5, overlap=1.0, missed=0.5, doubt=0.1)
    right = wanted.clone()
    if method == "boundary":
        background, inside = 1 - wanted[:, 0], wanted[:, 1]
        right = torch.stack([background, inside, 1 - background - inside], 1) * 20
    elif method == "distance":
        right = torch.logit(wanted, eps=1e-4)
    elif method == "flow":
        right[:, 0] = (wanted[:, 0] - 0.5) * 20
    else:
        right = torch.cat([torch.logit(wanted[:, :1], eps=1e-4), (wanted[:, 1:] + 1).log()], 1)
    wrong = right.flip(2)
    assert target.loss(right, wanted, weight, judge) < 0.5 * target.loss(wrong, wanted, weight, judge)
    np.testing.assert_allclose(target.activate(right)[0].numpy(), wanted[0].numpy(), atol=0.02)


def test_lengths_of_rays_grow_with_the_image():
    maps = np.ones((33, 2, 2), np.float32)
    larger = stardist.TARGET.enlarge(maps, 3.0)
    assert larger[0].max() == 1
    assert larger[1:].min() == larger.max() == 3
    assert flow.TARGET.enlarge(maps[:3], 3.0) is not None
