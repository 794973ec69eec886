"""Matching of objects and the scores built on it, against loops that look at every pair."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.io import imread

from plateline import metrics
from plateline.errors import LabelError


def blocks(*boxes, shape=(12, 20)):
    """Label image of boxes (y0, x0, y1, x1), numbered from 1."""
    image = np.zeros(shape, np.int32)
    for number, (y0, x0, y1, x1) in enumerate(boxes, start=1):
        image[y0:y1, x0:x1] = number
    return image


def random_labels(seed, shape=(24, 30), n=12):
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.int64)
    for number in rng.choice(np.arange(1, 1000), n, replace=False):
        y, x = rng.integers(0, shape[0] - 2), rng.integers(0, shape[1] - 2)
        image[y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = number
    return image


def noisy(labels, seed):
    """The same objects moved a little, some merged, some gone."""
    rng = np.random.default_rng(seed)
    image = np.roll(labels, rng.integers(-2, 3, 2), (0, 1))
    numbers = np.unique(image[image > 0])
    image[np.isin(image, numbers[::5])] = 0
    if numbers.size > 3:
        image[image == numbers[1]] = numbers[2]
    return image


def naive_pairs(truth, found):
    rows = []
    for t in np.unique(truth[truth > 0]):
        for f in np.unique(found[found > 0]):
            both, either = ((truth == t) & (found == f)).sum(), ((truth == t) | (found == f)).sum()
            if both:
                rows.append((t, f, both, both / either))
    return pd.DataFrame(rows, columns=["truth", "found", "pixels", "iou"])


def naive_greedy(pairs, threshold):
    """Best pair first; right above an IoU of 0.5, where an object has one partner."""
    taken_true, taken_found, n = set(), set(), 0
    for row in pairs.sort_values("iou", ascending=False).itertuples():
        if row.iou >= threshold and row.truth not in taken_true and row.found not in taken_found:
            taken_true.add(row.truth)
            taken_found.add(row.found)
            n += 1
    return n


# matching


@pytest.mark.parametrize("seed", range(20))
def test_pairs_are_those_of_a_loop(seed):
    truth = random_labels(seed)
    found = noisy(truth, seed) if seed % 2 else random_labels(seed + 100)
    pairs = metrics.overlapping_pairs(truth, found)
    expected = naive_pairs(truth, found).astype(pairs.dtypes)
    pd.testing.assert_frame_equal(pairs, expected)
    counts = metrics.match(truth, found)
    n_true, n_found = (np.unique(image[image > 0]).size for image in (truth, found))
    for row in counts.itertuples():
        assert row.tp == naive_greedy(expected, row.threshold)
        assert (row.fp, row.fn) == (n_found - row.tp, n_true - row.tp)


def test_pairs_of_a_real_field_are_those_of_a_loop(data):
    path = sorted((data / "dsb2018_fluo" / "val" / "masks").iterdir())[3]
    truth = imread(path)
    found = noisy(truth.astype(np.int64), 1)
    expected = naive_pairs(truth, found)
    pd.testing.assert_frame_equal(metrics.overlapping_pairs(truth, found), expected.astype({"truth": np.int64}))


def best_of_all(pairs, threshold):
    """Most pairs, then the largest sum of IoU, by trying every order of the found objects."""
    enough = pairs[pairs["iou"] >= threshold]
    iou = {(row.truth, row.found): row.iou for row in enough.itertuples()}
    trues, founds = sorted(set(enough["truth"])), sorted(set(enough["found"]))
    slots = founds + [None] * len(trues)
    best = (0, 0.0)
    for chosen in set(permutations(slots, len(trues))):
        got = [iou[pair] for pair in zip(trues, chosen, strict=True) if pair in iou]
        best = max(best, (len(got), round(sum(got), 9)))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_below_a_half_the_matching_is_the_best_of_all(seed):
    truth, found = random_labels(seed, (10, 12), 4), random_labels(seed + 50, (10, 12), 4)
    for threshold in (0.05, 0.2, 0.4, 0.5):
        pairs = metrics.matched_pairs(truth, found, threshold)
        assert pairs["truth"].is_unique
        assert pairs["found"].is_unique
        got = (len(pairs), round(pairs["iou"].sum(), 9))
        assert got == best_of_all(naive_pairs(truth, found), threshold)


def test_the_best_partner_first_is_not_always_best():
    truth = blocks((0, 0, 1, 10), (0, 10, 1, 16))
    found = blocks((0, 2, 1, 13), (0, 0, 1, 2))
    # The first found object overlaps both, more of the first; the second only the first.
    pairs = metrics.matched_pairs(truth, found, 0.1)
    assert list(zip(pairs["truth"], pairs["found"], strict=True)) == [(1, 2), (2, 1)]


def test_an_object_halved_exactly_is_found_once():
    truth, found = blocks((0, 0, 4, 10)), blocks((0, 0, 4, 5), (0, 5, 4, 10))
    counts = metrics.match(truth, found, (0.5,))
    assert counts.to_dict("records") == [{"threshold": 0.5, "tp": 1, "fp": 1, "fn": 0}]


def test_an_overlap_of_exactly_the_threshold_counts():
    truth, found = blocks((0, 0, 1, 20)), blocks((0, 0, 1, 11))
    counts = metrics.match(truth, found).set_index("threshold")["tp"]
    assert counts[0.55] == 1
    assert counts[0.6] == 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_numbers_orientation_and_direction_change_no_count(seed):
    rng = np.random.default_rng(seed)
    truth = random_labels(seed)
    found = noisy(truth, seed)
    plain = metrics.match(truth, found)
    names = np.concatenate([[0], rng.permutation(np.arange(1, 1000)) * 7])
    pd.testing.assert_frame_equal(metrics.match(names[truth], found.astype(np.uint16)), plain)
    pd.testing.assert_frame_equal(metrics.match(truth.T, found.T), plain)
    swapped = metrics.match(found, truth).rename(columns={"fp": "fn", "fn": "fp"})
    pd.testing.assert_frame_equal(swapped[plain.columns], plain)


@pytest.mark.parametrize("seed", range(6))
def test_disagreement_is_that_of_a_loop_whatever_the_order_numbers_and_axes(seed):
    first = random_labels(seed)
    images = [first, noisy(first, seed), random_labels(seed + 50), noisy(first, seed + 1)][: 2 + seed % 3]
    apart = []
    for one in range(len(images)):
        for other in range(one):
            same = naive_greedy(naive_pairs(images[one], images[other]), 0.5 + 1e-9)
            n = sum(np.unique(image[image > 0]).size for image in (images[one], images[other]))
            apart.append((n - 2 * same) / n)
    # A threshold right above a half, where an object has one partner.
    found = metrics.disagreement(images, 0.5 + 1e-9)
    assert found == pytest.approx(sum(apart) / len(apart), abs=1e-12)
    rng = np.random.default_rng(seed)
    numbers = np.append(0, rng.permutation(5000) + 1)
    changed = [numbers[image].T for image in rng.permutation(images)]
    assert metrics.disagreement(changed, 0.5 + 1e-9) == found
    assert metrics.disagreement(changed) == metrics.disagreement(images) <= found


def test_disagreement_of_images_without_objects():
    none, one = np.zeros((4, 4), int), np.ones((4, 4), int)
    assert metrics.disagreement([none, none]) == 0
    assert metrics.disagreement([none, one]) == metrics.disagreement([one, none]) == 1
    assert metrics.disagreement([one, one, none]) == pytest.approx(2 / 3)
    assert np.isnan(metrics.disagreement([one]))
    assert np.isnan(metrics.disagreement([]))


def test_the_truth_finds_itself():
    truth = random_labels(5)
    counts = metrics.match(truth, truth, (*metrics.THRESHOLDS, 1.0))
    assert (counts["tp"] == np.unique(truth[truth > 0]).size).all()
    assert (counts[["fp", "fn"]] == 0).all(axis=None)


def test_more_objects_than_a_16_bit_number_are_counted():
    truth = np.arange(1, 70_001, dtype=np.int32).reshape(280, 250)
    counts = metrics.match(truth, truth[::-1, ::-1].copy(), (0.5,))
    assert counts["tp"].tolist() == [70_000]


def test_images_without_objects_have_a_score():
    empty, one = np.zeros((5, 6), np.int32), blocks((0, 0, 3, 3), shape=(5, 6))
    for truth, found, ap, score in ((empty, empty, 1, 1), (empty, one, 0, 0), (one, empty, 0, 0), (one, one, 1, 1)):
        counts = metrics.match(truth, found)
        assert (metrics.average_precision(counts) == ap).all()
        assert (metrics.f1(counts) == score).all()
    assert len(metrics.match(np.zeros((0, 0), int), np.zeros((0, 0), int))) == len(metrics.THRESHOLDS)


@pytest.mark.parametrize(
    ("truth", "found", "threshold", "message"),
    [
        (np.zeros((3, 4), int), np.zeros((4, 3), int), 0.5, r"have shapes .*; expected the same shape"),
        (np.zeros((3, 4), int), np.zeros((3, 4)), 0.5, "has dtype float64; expected an integer type"),
        (np.zeros((3, 4), int), np.full((3, 4), -2), 0.5, "numbers from -2 to -2; expected 0 to 2147483647"),
        (np.full((3, 4), 1 << 40), np.zeros((3, 4), int), 0.5, "numbers from 1099511627776 to"),
        (np.ones((3, 4), int), np.ones((3, 4), int), 0.0, "threshold to match objects is 0.0; expected above 0 to 1"),
        (np.ones((3, 4), int), np.ones((3, 4), int), 1.1, "threshold to match objects is 1.1"),
    ],
)
def test_what_cannot_be_matched_is_refused(truth, found, threshold, message):
    with pytest.raises(LabelError, match=message):
        metrics.match(truth, found, (threshold,))


# points


@pytest.mark.parametrize("seed", range(8))
def test_points_are_matched_as_well_as_can_be(seed):
    rng = np.random.default_rng(seed)
    truth, found = rng.uniform(0, 10, (5, 2)), rng.uniform(0, 10, (5, 2))
    pairs = metrics.match_points(truth, found, 4.0)
    got = (len(pairs), round(-np.linalg.norm(truth[pairs[:, 0]] - found[pairs[:, 1]], axis=1).sum(), 9))
    best = (0, 0.0)
    for chosen in permutations([*range(5), *[None] * 5], 5):
        gaps = [np.linalg.norm(truth[i] - found[j]) for i, j in enumerate(chosen) if j is not None]
        if all(gap <= 4.0 for gap in gaps):
            best = max(best, (len(gaps), round(-sum(gaps), 9)))
    assert got == best


def test_without_points_there_are_no_pairs():
    none, some = np.zeros((0, 2)), np.zeros((3, 2))
    for truth, found in ((none, some), (some, none), (none, none), (some, some + 100)):
        assert metrics.match_points(truth, found, 5.0).shape == (0, 2)


# scores


def counts_of(images):
    """Counts of named images from lists of (tp, fp, fn) per threshold."""
    rows = [
        {"image": name, "threshold": threshold, "tp": tp, "fp": fp, "fn": fn}
        for name, values in images.items()
        for threshold, (tp, fp, fn) in zip((0.5, 0.75), values, strict=True)
    ]
    return pd.DataFrame(rows)


IMAGES = {
    "a": [(8, 2, 0), (4, 6, 4)],
    "b": [(90, 0, 10), (50, 40, 50)],
    "c": [(0, 0, 0), (0, 0, 0)],
    "d": [(1, 3, 1), (0, 4, 2)],
}


def naive_scores(images):
    """Name -> score, from the words of the definitions."""
    found = {}
    for place, step in ((0, "50"), (1, "75")):
        rows = [values[place] for values in images.values()]
        tp, fp, fn = (sum(column) for column in zip(*rows, strict=True))
        found[f"ap{step}_pooled"], found[f"f1_{step}_pooled"] = tp / (tp + fp + fn), 2 * tp / (2 * tp + fp + fn)
        found[f"ap{step}_image"] = np.mean([t / (t + p + n) if t + p + n else 1 for t, p, n in rows])
        found[f"f1_{step}_image"] = np.mean([2 * t / (2 * t + p + n) if t + p + n else 1 for t, p, n in rows])
    for over in ("pooled", "image"):
        found[f"ap_mean_{over}"] = (found[f"ap50_{over}"] + found[f"ap75_{over}"]) / 2
        found[f"f1_mean_{over}"] = (found[f"f1_50_{over}"] + found[f"f1_75_{over}"]) / 2
    return found


def test_scores_are_those_of_their_definitions():
    table, expected = metrics.scores(counts_of(IMAGES)), naive_scores(IMAGES)
    assert set(table.index) == set(expected)
    for name, value in expected.items():
        assert table.loc[name, "value"] == pytest.approx(value), name


def test_intervals_are_those_of_images_drawn_in_a_loop():
    draws, names = 200, list(IMAGES)
    weights = np.random.default_rng(3).multinomial(4, [0.25] * 4, draws)
    samples = []
    for weight in weights:
        drawn = {f"{name}{copy}": IMAGES[name] for name, n in zip(names, weight, strict=True) for copy in range(n)}
        if set(drawn) and any(sum(map(sum, values)) for values in drawn.values()):
            samples.append(naive_scores(drawn))
        else:  # only the image without objects was drawn
            samples.append(dict.fromkeys(naive_scores(IMAGES), 1.0))
    table = metrics.scores(counts_of(IMAGES), draws=draws, seed=3)
    low, high = np.percentile(pd.DataFrame(samples)[list(table.index)], (2.5, 97.5), axis=0)
    np.testing.assert_allclose(table["low"], low)
    np.testing.assert_allclose(table["high"], high)
    assert (table["low"] <= table["value"] + 1e-12).all()


def test_a_single_image_has_no_interval():
    table = metrics.scores(counts_of({"b": IMAGES["b"]}))
    assert table["value"].notna().all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_strata_are_scored_apart():
    counts = counts_of(IMAGES)
    counts["size"] = counts["image"].map({"a": "small", "c": "small", "b": "large", "d": "large"})
    table = metrics.scores_by(counts, "size", draws=50)
    assert list(table.columns) == ["size", "images", "value", "low", "high"]
    assert (table["images"] == 2).all()
    small = metrics.scores(counts[counts["size"] == "small"], draws=50)
    pd.testing.assert_frame_equal(table[table["size"] == "small"][["value", "low", "high"]], small)


def test_images_with_other_thresholds_are_refused():
    with pytest.raises(LabelError, match="counts to score have 4 images, or their thresholds differ"):
        metrics.scores(counts_of(IMAGES).iloc[1:])
    with pytest.raises(LabelError, match="counts to score have 0 images"):
        metrics.scores(counts_of(IMAGES).iloc[:0])
