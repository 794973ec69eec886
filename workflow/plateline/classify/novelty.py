"""How far rows lie from everything that taught, and whether that tells unseen classes from seen ones."""

import numpy as np
from sklearn.metrics import pairwise_distances

from plateline.classify.calibration import novelty_auroc
from plateline.classify.labels import Bools, Floats, Texts
from plateline.classify.splits import leave_class_out


def distances(X: Floats, known: Bools, *, direction: bool) -> Floats:
    """Distances (N, M) of all rows from the known ones.

    Parameters
    ----------
    X : ndarray of float64, shape (N, D)
    known : ndarray of bool, shape (N,)
        M rows with classes.
    direction : bool
        By cosine, the usual measure where every class does something; else root mean square over features, which
        also serves inactive wells: those lie near the origin and have no direction.
    """
    if direction:
        return pairwise_distances(X, X[known], metric="cosine")
    return pairwise_distances(X, X[known]) / np.sqrt(X.shape[1])


def nearest_of_others(distance: Floats, groups: list[Texts], known: Bools) -> Floats:
    """Distance of each row (N,) to the nearest known row that shares no group with it; infinite where there is none.

    The own group is passed over for every row, known or not: otherwise the known rows, which cannot count themselves,
    would look further away than the others by construction.
    """
    alike = np.any([names[:, None] == names[known][None] for names in groups], axis=0)  # (N, M)
    return np.where(alike, np.inf, distance).min(axis=1, initial=np.inf)


def novelty_p(distance: Floats, null: Floats) -> float:
    """Share of the known rows' distances that are at least the mean distance, as a conformal p; NaN for NaN."""
    mean = float(np.mean(distance))
    return np.nan if np.isnan(mean) else float((1 + (null >= mean).sum()) / (len(null) + 1))


def leave_class_out_auroc(distance: Floats, Y: Bools, compounds: Texts) -> list[float]:
    """For each class, how well the distance tells its rows from the others when no row of it taught.

    Parameters
    ----------
    distance : ndarray of float64, shape (N, N)
        Between known rows.
    Y : ndarray of bool, shape (N, K)
    compounds : ndarray of str, shape (N,)
        A row is never compared with its own compound.

    Returns
    -------
    list of float
        Areas under the curve (K,), NaN where a class is all there is.
    """
    areas = []
    for k, splits in leave_class_out(Y, compounds):
        score = np.full(len(Y), np.inf)
        for split in splits:
            score[split.test] = distance[np.ix_(split.test, split.train)].min(axis=1, initial=np.inf)
        finite = np.isfinite(score)
        areas.append(novelty_auroc(score[finite], Y[finite, k]) if finite.any() else np.nan)
    return areas
