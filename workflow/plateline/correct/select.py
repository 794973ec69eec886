"""Which features are kept, and why each other one is not: names, spread, outliers, correlation, relevance."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.correct.context import Floats


def select_features(
    scaled: pd.DataFrame,
    negative: npt.NDArray[np.bool_],
    *,
    min_variance: float = 0.0,
    max_outlier: float = 0.0,
    max_correlation: float = 1.0,
    n_relevant: int = 0,
) -> dict[str, str]:
    """Features to drop, each with the first reason that holds.

    Parameters
    ----------
    scaled : DataFrame
        Wells by features, scaled, finite, none constant.
    negative : ndarray of bool, shape (N,)
        Negative control wells.
    min_variance : float
        Features that vary less over all wells are dropped.
    max_outlier : float
        Features with an absolute value above this in any well are dropped; 0 for no limit.
    max_correlation : float
        Largest absolute Pearson correlation between two kept features, 0 to 1.
    n_relevant : int
        Features that `most_relevant` keeps of the others; 0 keeps all.

    Returns
    -------
    dict of str to str
        Feature to reason, in the order of the steps.

    Notes
    -----
    Looks at all wells and at which are negative controls, never at compounds: a sample well may change which features
    are kept, never the values of other wells. With `n_relevant` the controls are told from all other wells, so its
    choice suits a screen where most treatments do something.
    """
    variance, largest = scaled.var(ddof=0), scaled.abs().max()
    dropped = dict.fromkeys(scaled.columns[variance < min_variance], f"variance below {min_variance:g}")
    outlying = scaled.columns[largest > max_outlier] if max_outlier else []
    dropped |= {f: f"a value above {max_outlier:g}" for f in outlying if f not in dropped}
    left = scaled.drop(columns=list(dropped))
    partner = correlated(left.to_numpy(), max_correlation)
    names = left.columns
    redundant = [(names[i], names[partner[i]]) for i in np.flatnonzero(partner >= 0)]
    dropped |= {later: f"correlation above {max_correlation:g} with {before}" for later, before in redundant}
    left = scaled.drop(columns=list(dropped))
    if n_relevant and len(left.columns) > n_relevant:
        chosen = most_relevant(left.to_numpy(), negative, n_relevant)
        irrelevant = np.setdiff1d(np.arange(len(left.columns)), chosen)
        dropped |= {left.columns[i]: f"not among the {n_relevant} most relevant" for i in irrelevant}
    return dropped


def correlated(X: npt.ArrayLike, max_correlation: float) -> npt.NDArray[np.intp]:
    """For each feature the kept feature that makes it redundant, or -1 where it is kept itself.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Wells by features, finite, no feature constant.
    max_correlation : float
        Features whose absolute Pearson correlation is larger are a pair, 0 to 1.

    Returns
    -------
    ndarray of intp, shape (D,)
        -1, or the index of the kept feature before it with the largest absolute correlation (the first of ties).

    Notes
    -----
    Greedy in the order of the features: of a pair the later goes, and a feature that went makes no other go. All
    features are kept when there are fewer than two wells.

    Examples
    --------
    >>> correlated([[0, 0, 1], [1, 2, 0], [2, 4, 1]], 0.9)
    array([-1,  0, -1])
    """
    X = np.asarray(X, np.float64)
    partner = np.full(X.shape[1], -1, np.intp)
    if len(X) < 2:
        return partner
    r = _correlations(X)
    kept = np.zeros(len(partner), bool)
    for i in range(len(partner)):
        before = np.where(kept[:i], r[i, :i], -1)
        if i and before.max() > max_correlation:
            partner[i] = before.argmax()
        else:
            kept[i] = True
    return partner


def most_relevant(X: npt.ArrayLike, negative: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.intp]:
    """The `n` features of largest relevance for what they add: mRMR.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Wells by features, finite, no feature constant.
    negative : ndarray of bool, shape (N,)
        Negative control wells; the features are to tell them from the others.
    n : int
        How many, from 1 to D.

    Returns
    -------
    ndarray of intp, shape (n,)
        Indices, in the order they were taken; the first of ties.

    Notes
    -----
    Relevance is the F ratio of controls against the others, redundancy the mean absolute correlation with the features
    taken before; the quotient counts. Without both kinds of wells all are equally relevant.

    References
    ----------
    Ding & Peng 2005, https://doi.org/10.1142/S0219720005001004
    """
    X = np.asarray(X, np.float64)
    relevance = _f_ratio(X, negative)
    r = _correlations(X)
    taken: Sequence[int] = [int(relevance.argmax())]
    redundancy = np.zeros(X.shape[1])
    while len(taken) < n:
        redundancy += r[taken[-1]]
        gain = relevance / np.maximum(redundancy / len(taken), np.finfo(float).eps)
        gain[list(taken)] = -1
        taken = [*taken, int(gain.argmax())]
    return np.array(taken, np.intp)


def _f_ratio(X: Floats, negative: npt.NDArray[np.bool_]) -> Floats:
    """F ratio (D,) of the two kinds of wells; 1 for all features where a kind is missing."""
    kinds = [X[negative], X[~negative]]
    if min(len(rows) for rows in kinds) < 1 or len(X) < 3:
        return np.ones(X.shape[1])
    between = sum(len(rows) * (rows.mean(axis=0) - X.mean(axis=0)) ** 2 for rows in kinds)
    inside = sum(((rows - rows.mean(axis=0)) ** 2).sum(axis=0) for rows in kinds) / (len(X) - 2)
    return between / np.maximum(inside, np.finfo(float).tiny)


def _correlations(X: Floats) -> Floats:
    """Absolute Pearson correlations (D, D)."""
    centered = X - X.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=0)
    # Rounding may lift a correlation above 1, which would drop a feature even at max_correlation 1.
    return np.minimum(np.abs(centered.T @ centered), 1)
