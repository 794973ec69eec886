"""How far probabilities can be trusted: log loss, Brier score, calibration error, risk and coverage, sets, novelty."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from plateline.classify.labels import Bools, Floats, Texts

# A probability of 0 for the true class would make one row's log loss infinite.
MIN_PROBABILITY = 1e-6
N_BINS = 10
N_BOOTSTRAP = 2000
CONFIDENCE = 0.95


def of_truth(probability: Floats, Y: Bools) -> Floats:
    """Probability (N,) given to the classes that a row has, together; probability (N, K), Y (N, K)."""
    return (probability * Y).sum(axis=1)


def is_right(probability: Floats, Y: Bools) -> Bools:
    """Whether the likeliest class of each row, the first of ties, is one of its own, (N,)."""
    return Y[np.arange(len(Y)), probability.argmax(axis=1)]


def balanced_accuracy(right: Bools, Y: Bools) -> float:
    """Mean over classes of the share of their rows that are right."""
    return float(np.mean([right[column].mean() for column in Y.T if column.any()]))


def log_loss(probability: Floats, Y: Bools) -> float:
    """Mean of -log of the probability given to the truth, nats."""
    return float(-np.log(np.maximum(of_truth(probability, Y), MIN_PROBABILITY)).mean())


def brier(probability: Floats, Y: Bools) -> Floats:
    """Squared distance (N,) of the probabilities from the truth, 0 to 2; of several classes the likeliest is meant."""
    meant = np.where(Y, probability, -1.0).argmax(axis=1)
    truth = np.zeros(Y.shape)
    truth[np.arange(len(Y)), meant] = 1
    return ((probability - truth) ** 2).sum(axis=1)


def constant_confidence(probability: Floats, Y: Bools) -> Floats:
    """The same answers, all as sure as they are right in the mean (N, K): what a doubt of its own must beat."""
    accuracy, n_classes = is_right(probability, Y).mean(), Y.shape[1]
    constant = np.full(Y.shape, (1 - accuracy) / max(n_classes - 1, 1))
    constant[np.arange(len(Y)), probability.argmax(axis=1)] = accuracy
    return constant


def calibration_error(confidence: Floats, right: npt.ArrayLike) -> float:
    """Mean difference of confidence and share right, over bins of equal numbers of rows.

    Parameters
    ----------
    confidence : ndarray of float64, shape (N,)
    right : array_like of bool, shape (N,)

    Returns
    -------
    float
        From 0. Ten bins, or fewer so that each has ten rows. Ties keep their order.

    Notes
    -----
    Small samples lift it: a perfect classifier of 100 rows has about 0.1.
    """
    right = np.asarray(right, float)
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, max(1, min(N_BINS, len(order) // 10)))
    return float(sum(abs(confidence[b].mean() - right[b].mean()) * len(b) for b in bins) / len(order))


def risk_coverage_area(confidence: Floats, right: npt.ArrayLike) -> float:
    """Mean share of wrong answers among the surest n rows, over n from 1 to N; ties count as one by their mean.

    An order that says nothing has the share of wrong answers; less is better.
    """
    wrong = 1 - np.asarray(right, float)
    _, place, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    even = (np.bincount(place, weights=wrong) / counts)[place][np.argsort(-confidence, kind="stable")]
    return float((np.cumsum(even) / np.arange(1, len(even) + 1)).mean())


def conformal_quantile(score: Floats, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest score (n,); infinite when n is too small for the coverage."""
    # The rounding of a product like 100 * 0.9 must not ask for one rank more.
    rank = int(np.ceil((len(score) + 1) * coverage - 1e-9))
    return float(np.sort(score)[rank - 1]) if rank <= len(score) else np.inf


def cross_conformal(probability: Floats, Y: Bools, groups: Texts, coverage: float) -> Bools:
    """Sets (N, K) of the known rows, each by the scores of the other groups.

    Parameters
    ----------
    probability : ndarray of float64, shape (N, K)
        Out-of-fold.
    Y : ndarray of bool, shape (N, K)
    groups : ndarray of str, shape (N,)
        Compounds, say: the rows of one have no say in their own sets.
    coverage : float
        Wanted share of sets with a class of the row, between 0 and 1.

    References
    ----------
    Vovk 2015, https://doi.org/10.1007/s10472-013-9368-4
    """
    score = 1 - np.where(Y, probability, -np.inf).max(axis=1)
    sets = np.zeros(Y.shape, bool)
    for name in np.unique(groups):
        own = groups == name
        sets[own] = 1 - probability[own] <= conformal_quantile(score[~own], coverage)
    return sets


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.intp]], float], groups: Texts, seed: int, n_draws: int = N_BOOTSTRAP
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of rows, whole groups drawn with replacement.

    Parameters
    ----------
    statistic : callable
        Rows (with repeats) to a number.
    groups : ndarray of str, shape (N,)
    seed : int
    n_draws : int
    """
    _, group = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(rows), (n_draws, len(rows)))
    values = [statistic(np.concatenate([rows[g] for g in draw])) for draw in drawn]
    low, high = np.nanquantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def novelty_auroc(score: Floats, novel: Bools) -> float:
    """Chance that a novel row scores higher than a known one, ties by half; NaN where a kind is missing."""
    return float(roc_auc_score(novel, score)) if 0 < novel.sum() < len(novel) else np.nan
