"""Classifiers by the nearest known rows, by cosine."""

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin

from plateline.classify.labels import Floats


class NearestCosine(ClassifierMixin, BaseEstimator):
    """The class of the nearest known rows.

    Parameters
    ----------
    n_neighbours : int
        Rows of a class that count, at least 1: the nearest ones, or all of it where it has fewer.
    sharpness : float
        Above 0. A class's probability goes with exp(`sharpness` times the mean cosine of its nearest rows): the
        order of the classes does not depend on it, how sure the answer is does.

    Notes
    -----
    With one neighbour the likeliest class is that of the nearest row, the first by name of ties. Rows of zeros have no
    direction: cosine 0 with everything.
    """

    def __init__(self, *, n_neighbours: int, sharpness: float):
        self.n_neighbours = n_neighbours
        self.sharpness = sharpness

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> "NearestCosine":
        """Keep the known rows; X (N, D) float, y (N,) classes."""
        self.directions_ = directions(X)
        self.classes_, self.y_ = np.unique(np.asarray(y), return_inverse=True)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``; X (M, D)."""
        cosine = directions(X) @ self.directions_.T  # (M, N)
        score = np.stack([self._near(cosine[:, self.y_ == k]) for k in range(len(self.classes_))], axis=1)
        weight = np.exp(self.sharpness * (score - score.max(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray:
        """The likeliest class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _near(self, cosine: Floats) -> Floats:
        """Mean of the largest cosines of each row."""
        n = min(self.n_neighbours, cosine.shape[1])
        return np.partition(cosine, -n, axis=1)[:, -n:].mean(axis=1)


def nearest(*, sharpness: float, seed: int) -> NearestCosine:
    """The class of the nearest row by cosine, the field's usual rule for mechanisms; needs no chance."""
    return NearestCosine(n_neighbours=1, sharpness=sharpness)


def neighbours(*, n_neighbours: int, sharpness: float, seed: int) -> NearestCosine:
    """The class whose nearest rows are nearest in the mean; needs no chance.

    Each class is judged by as many rows, so that a class of many rows does not win by their number.
    """
    return NearestCosine(n_neighbours=n_neighbours, sharpness=sharpness)


def directions(X: npt.ArrayLike) -> Floats:
    """Rows of length 1; rows of zeros stay."""
    X = np.asarray(X, np.float64)
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(float).tiny)
