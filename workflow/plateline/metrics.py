"""How well label images agree with the truth: matched objects, average precision, F1, and their intervals.

Owns the matching and the scores. It says nothing of where images come from, and it never builds a table of all true by
all found objects: only pairs that share a pixel are looked at.
"""

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from plateline.errors import LabelError

# The grid that "mean AP" averages over. Written out: steps of 0.05 added up in binary miss an overlap of exactly 11/20.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
_COUNTS = ["tp", "fp", "fn"]


def match(
    truth: npt.NDArray[np.integer], found: npt.NDArray[np.integer], thresholds: Sequence[float] = THRESHOLDS
) -> pd.DataFrame:
    """Objects found, invented and missed in one image, one row per threshold.

    Parameters
    ----------
    truth, found : (Y, X) integer
        Label images; 0 is background, numbers may have gaps.
    thresholds : sequence of float
        Smallest intersection over union (IoU) of a pair, above 0 to 1.

    Returns
    -------
    pd.DataFrame
        ``threshold``, ``tp`` (pairs), ``fp`` (found objects without a pair), ``fn`` (true objects without one).

    Raises
    ------
    LabelError
        If the images differ in shape, are no integers or hold numbers below 0; if a threshold is not above 0 to 1.

    Notes
    -----
    Pairs are those of `matched_pairs`.
    """
    overlaps = overlapping_pairs(truth, found)
    n_true, n_found = (np.count_nonzero(np.unique(labels)) for labels in (truth, found))
    pairs = np.array([len(_one_to_one(overlaps, threshold)) for threshold in thresholds], np.int64)
    return pd.DataFrame({"threshold": list(thresholds), "tp": pairs, "fp": n_found - pairs, "fn": n_true - pairs})


def matched_pairs(
    truth: npt.NDArray[np.integer], found: npt.NDArray[np.integer], threshold: float = 0.5
) -> pd.DataFrame:
    """True and found objects matched one to one, sorted by true number.

    Parameters
    ----------
    truth, found : (Y, X) integer
        Label images; 0 is background.
    threshold : float
        Smallest IoU of a pair, above 0 to 1.

    Returns
    -------
    pd.DataFrame
        ``truth``, ``found`` (numbers), ``pixels`` (shared) and ``iou``.

    Raises
    ------
    LabelError
        As `match`.

    Notes
    -----
    Above an IoU of 0.5 an object has one partner at most, so there is nothing to choose. Otherwise as many pairs as
    possible are made, and among equally many those with the largest sum of IoU.
    """
    return _one_to_one(overlapping_pairs(truth, found), threshold)


def overlapping_pairs(truth: npt.NDArray[np.integer], found: npt.NDArray[np.integer]) -> pd.DataFrame:
    """All pairs of a true and a found object that share a pixel, sorted by true, then found number.

    Parameters
    ----------
    truth, found : (Y, X) integer
        Label images; 0 is background.

    Returns
    -------
    pd.DataFrame
        ``truth``, ``found`` (numbers), ``pixels`` (shared) and ``iou`` (float64, above 0 to 1).

    Raises
    ------
    LabelError
        If the images differ in shape, are no integers, or hold numbers below 0 or beyond 32 bits.
    """
    truth, found = _check_labels(truth, found)
    codes = (truth.ravel() << 32) | found.ravel()
    numbers, pixels = _count(codes)
    of_truth, of_found = numbers >> 32, numbers & 0xFFFFFFFF
    area_true, area_found = (_areas(column, pixels) for column in (of_truth, of_found))
    both = (of_truth > 0) & (of_found > 0)
    union = area_true[both] + area_found[both] - pixels[both]
    return pd.DataFrame(
        {"truth": of_truth[both], "found": of_found[both], "pixels": pixels[both], "iou": pixels[both] / union}
    )


def average_precision(counts: pd.DataFrame) -> pd.Series:
    """AP of each row, TP / (TP + FP + FN), float64 from 0 to 1.

    Parameters
    ----------
    counts : pd.DataFrame
        Columns ``tp, fp, fn``, as `match` gives them or their sums.

    Notes
    -----
    Nothing to find and nothing found is a right answer: 1. One false object in such an image makes it 0.

    References
    ----------
    Named average precision after the 2018 Data Science Bowl: Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7.
    """
    return pd.Series(_ap_and_f1(counts[_COUNTS].to_numpy(np.float64))[0], counts.index, name="ap")


def f1(counts: pd.DataFrame) -> pd.Series:
    """F1 of each row, 2 TP / (2 TP + FP + FN), float64 from 0 to 1; 1 where there is nothing to find and nothing found.

    Parameters
    ----------
    counts : pd.DataFrame
        Columns ``tp, fp, fn``, as `match` gives them or their sums.
    """
    return pd.Series(_ap_and_f1(counts[_COUNTS].to_numpy(np.float64))[1], counts.index, name="f1")


def disagreement(images: Sequence[npt.NDArray[np.integer]], threshold: float = 0.5) -> float:
    """How far the label images that several methods give of one field differ, from 0 (the same objects) to 1.

    Parameters
    ----------
    images : sequence of (Y, X) integer
        One label image per method; 0 is background, numbers may have gaps.
    threshold : float
        Smallest IoU at which two objects are the same, above 0 to 1.

    Returns
    -------
    float
        1 - F1, averaged over all pairs of images; NaN of fewer than two, since there is nothing to compare.

    Raises
    ------
    LabelError
        As `match`.

    Notes
    -----
    Neither the order of the images nor the numbers of their objects count. Two images without objects agree; one with
    and one without have nothing in common: 1. It says how sure the objects are, not which method is right: methods that
    make the same mistake agree.

    References
    ----------
    After the mean Dice of all pairs of samples of a network, as quality control of its segmentation: Roy et al. 2019,
    doi:10.1016/j.neuroimage.2019.03.042. There pixels are counted, here objects.
    """
    apart = [1 - f1(match(*pair, [threshold])).iloc[0] for pair in combinations(images, 2)]
    return math.fsum(apart) / len(apart) if apart else math.nan


def scores(counts: pd.DataFrame, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """AP and F1 over images, pooled and averaged per image, with bootstrap intervals.

    Parameters
    ----------
    counts : pd.DataFrame
        Rows of `match` of all images below each other, with a column ``image`` that names them; every image with the
        same thresholds.
    draws : int
        Bootstrap samples of the images.
    seed : int
        Seed of the draws.

    Returns
    -------
    pd.DataFrame
        Columns ``value, low, high`` (float64; a 95 % percentile interval), indexed by name: ``ap50_pooled`` and
        ``f1_50_pooled`` from the counts summed over images, ``ap50_image`` and ``f1_50_image`` as means over images,
        so for every threshold; and ``ap_mean_pooled, ap_mean_image, f1_mean_pooled, f1_mean_image`` over all of them.

    Raises
    ------
    LabelError
        If there is no image, or two images have other thresholds.

    Notes
    -----
    Images are resampled, never objects, which are not independent within one. A single image has no interval: NaN.
    """
    thresholds, cube = _cube(counts)  # (I, T, 3)
    n = len(cube)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws).astype(np.float64)  # (D, I)
    value, sampled = _averages(np.ones((1, n)), cube), _averages(weights, cube)
    low, high = np.percentile(sampled, (2.5, 97.5), axis=0) if n > 1 else np.full((2, value.shape[1]), np.nan)
    steps = [f"{100 * threshold:.3g}" for threshold in thresholds]
    names = [
        f"{measure}{step}_{over}"
        for over in ("pooled", "image")
        for measure, mean in (("ap", "_mean"), ("f1_", "mean"))
        for step in (*steps, mean)
    ]
    return pd.DataFrame({"value": value[0], "low": low, "high": high}, index=pd.Index(names, name="score"))


def scores_by(counts: pd.DataFrame, column: str, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """`scores` of each stratum, with a first column of that name and ``images``, the number of images in it.

    Parameters
    ----------
    counts : pd.DataFrame
        As for `scores`, with one more column.
    column : str
        The column that names the stratum of each image.
    draws, seed : int
        As for `scores`.
    """
    tables = []
    for stratum, rows in counts.groupby(column, sort=True):
        table = scores(rows, draws=draws, seed=seed)
        table.insert(0, column, stratum)
        table.insert(1, "images", rows["image"].nunique())
        tables.append(table)
    return pd.concat(tables)


def match_points(
    truth: npt.NDArray[np.float64], found: npt.NDArray[np.float64], radius: float
) -> npt.NDArray[np.int64]:
    """Points matched one to one within a radius: places in `truth` and in `found`, (P, 2), sorted by the first.

    Parameters
    ----------
    truth, found : (N, 2), (M, 2) float
        Points, in any unit.
    radius : float
        Largest distance of a pair, in the same unit, above 0.

    Notes
    -----
    As many pairs as possible are made, and among equally many those with the smallest sum of distances.
    """
    if len(truth) == 0 or len(found) == 0:
        return np.zeros((0, 2), np.int64)
    near = KDTree(truth).query_ball_tree(KDTree(found), radius)
    left = np.repeat(np.arange(len(truth)), [len(places) for places in near])
    right = np.array([place for places in near for place in places], np.int64)
    distance = np.linalg.norm(truth[left] - found[right], axis=1)
    chosen = _best(left, right, 1 - distance / (2 * radius))
    return np.stack([left[chosen], right[chosen]], axis=1)


def _check_labels(*images: npt.NDArray[np.integer]) -> list[npt.NDArray[np.int64]]:
    """Two label images of one shape, as int64."""
    shapes = {np.shape(image) for image in images}
    if len(shapes) > 1:
        msg = f"label images to compare have shapes {' and '.join(map(str, shapes))}; expected the same shape"
        raise LabelError(msg)
    for image in images:
        if not np.issubdtype(np.asarray(image).dtype, np.integer):
            msg = f"label image to compare has dtype {np.asarray(image).dtype}; expected an integer type"
            raise LabelError(msg)
        if np.min(image, initial=0) < 0 or np.max(image, initial=0) > np.iinfo(np.int32).max:
            msg = (
                f"label image to compare has numbers from {np.min(image)} to {np.max(image)}; expected 0 to 2147483647"
            )
            raise LabelError(msg)
    return [np.asarray(image).astype(np.int64) for image in images]


def _count(codes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted values and how often each stands; sorts the runs of equal neighbours, a tenth of the pixels."""
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    lengths = np.diff(starts, append=codes.size)
    values, place = np.unique(codes[starts], return_inverse=True)
    return values, np.bincount(place, lengths, values.size).astype(np.int64)


def _areas(numbers: npt.NDArray[np.int64], pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Pixels of the whole object beside each of its pairs."""
    _, place = np.unique(numbers, return_inverse=True)
    return np.bincount(place, pixels).astype(np.int64)[place]


def _one_to_one(overlaps: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The pairs that are kept at a threshold."""
    if not 0 < threshold <= 1:
        msg = f"threshold to match objects is {threshold}; expected above 0 to 1"
        raise LabelError(msg)
    enough = overlaps[overlaps["iou"] >= threshold]
    # Twice an overlap above a half cannot be: the common case needs no assignment.
    if threshold <= 0.5:
        enough = enough.iloc[_best(*(enough[name].to_numpy() for name in ("truth", "found", "iou")))]
    return enough.reset_index(drop=True)


def _best(
    left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], gain: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Places of the pairs of a largest one-to-one matching, and among the largest, of the greatest sum of gains (0-1).

    Solved for each cluster of pairs that share objects: a few objects at a time.
    """
    left, right = (np.unique(side, return_inverse=True)[1] for side in (left, right))
    n = int(left.max(initial=-1)) + 1
    size = n + int(right.max(initial=-1)) + 1
    cluster = connected_components(coo_array((np.ones(left.size), (left, right + n)), (size, size)), directed=False)[1]
    order = np.argsort(cluster[left], kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(cluster[left][order])) + 1)
    return np.sort(np.concatenate([_best_of_cluster(left, right, gain, rows) for rows in groups]).astype(np.int64))


def _best_of_cluster(
    left: npt.NDArray[np.int64],
    right: npt.NDArray[np.int64],
    gain: npt.NDArray[np.float64],
    rows: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """`_best` of the pairs in `rows`."""
    if rows.size < 2:
        return rows
    (lefts, y), (rights, x) = (np.unique(side[rows], return_inverse=True) for side in (left, right))
    table = np.zeros((lefts.size, rights.size))
    # One pair more always counts more than any sum of gains.
    table[y, x] = 1 + gain[rows] / (2 * min(table.shape))
    place = np.full(table.shape, -1)
    place[y, x] = rows
    chosen = place[linear_sum_assignment(table, maximize=True)]
    return chosen[chosen >= 0]


def _cube(counts: pd.DataFrame) -> tuple[list[float], npt.NDArray[np.float64]]:
    """Thresholds, and TP, FP, FN of each image and threshold: (I, T, 3)."""
    table = counts.pivot(index="image", columns="threshold", values=_COUNTS)
    if table.empty or table.isna().to_numpy().any():
        msg = f"counts to score have {len(table)} images, or their thresholds differ; expected some, and one set"
        raise LabelError(msg)
    thresholds = list(table["tp"].columns)
    return thresholds, np.stack([table[name].to_numpy(np.float64) for name in _COUNTS], axis=-1)


def _averages(weights: npt.NDArray[np.float64], cube: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scores for each row of image weights, pooled, then per image: AP by threshold and mean, F1 by threshold and mean.

    Shapes: weights (D, I), cube (I, T, 3), result (D, 4 T + 4).
    """
    pooled = _ap_and_f1(np.einsum("di,itk->dtk", weights, cube))
    images = [weights @ values / weights.sum(axis=1, keepdims=True) for values in _ap_and_f1(cube)]
    with_mean = [np.append(values, values.mean(axis=1, keepdims=True), axis=1) for values in (*pooled, *images)]
    return np.concatenate(with_mean, axis=1)


def _ap_and_f1(cube: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """AP and F1 over the last axis (TP, FP, FN)."""
    tp, total = cube[..., 0], cube.sum(axis=-1)
    return [
        np.divide(part, whole, out=np.ones_like(tp), where=whole > 0)
        for part, whole in ((tp, total), (2 * tp, total + tp))
    ]
