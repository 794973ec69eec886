"""Method `mnn`: batches joined one after the other along pairs of wells that are each other's nearest."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import BATCH, Floats


class MutualNeighbours(TransformerMixin, BaseEstimator):
    """Mutual nearest neighbours.

    Parameters
    ----------
    n_neighbours : int
        Wells of the other batch that count as near, at least 1.
    bandwidth : float
        Width of the average over pairs, in distances between wells of length 1; above 0.

    Attributes
    ----------
    kind : str
        ``transductive``: sees features and batch of all wells.

    Notes
    -----
    The largest batch comes first (of equals the first by name) and stays as it is; each other one is moved towards all
    joined before it. A well moves by the mean difference of the pairs near it. It needs treatments that batches share:
    where there are none, the pairs are those of different biology.

    References
    ----------
    Haghverdi et al. 2018, https://doi.org/10.1038/nbt.4091
    """

    kind = "transductive"
    one_batch = "passed through"

    def __init__(self, *, n_neighbours: int = 20, bandwidth: float = 0.5):
        self.n_neighbours = n_neighbours
        self.bandwidth = bandwidth

    def fit_transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells moved to the first batch.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            All wells by features, finite.
        wells : DataFrame
            N rows of `context_of`.

        Returns
        -------
        ndarray of float64, shape (N, D)
        """
        X = np.array(X, np.float64)
        names, counts = np.unique(wells[BATCH].to_numpy(), return_counts=True)
        batches = [np.flatnonzero(wells[BATCH] == names[i]) for i in np.argsort(-counts, kind="stable")]
        joined = batches[0]
        for rows in batches[1:]:
            X[rows] += _moves(X[joined], X[rows], self.n_neighbours, self.bandwidth)
            joined = np.concatenate([joined, rows])
        return X


def mutual_pairs(A: npt.ArrayLike, B: npt.ArrayLike, n_neighbours: int) -> npt.NDArray[np.intp]:
    """Pairs (P, 2) of rows of A and B that are among each other's nearest by cosine, sorted."""
    similarity = _directions(np.asarray(A, np.float64)) @ _directions(np.asarray(B, np.float64)).T  # (a, b)
    near = _nearest(similarity, n_neighbours) & _nearest(similarity.T, n_neighbours).T
    return np.argwhere(near)


def _moves(A: Floats, B: Floats, n_neighbours: int, bandwidth: float) -> Floats:
    """What each row of B (b, D) is to be moved by, (b, D)."""
    pairs = mutual_pairs(A, B, n_neighbours)
    difference = A[pairs[:, 0]] - B[pairs[:, 1]]  # (P, D)
    # A well of B may be in many pairs: their mean counts once.
    own, place = np.unique(pairs[:, 1], return_inverse=True)
    counts = np.bincount(place)
    means = np.stack([np.bincount(place, weights=column) for column in difference.T], axis=1) / counts[:, None]
    unit = _directions(B)
    square = 2 - 2 * unit @ unit[own].T  # (b, P)
    # Relative to the nearest pair, so that a well far from all of them still moves with it.
    weight = np.exp(-(square - square.min(axis=1, keepdims=True)) / (2 * bandwidth**2))
    return (weight / weight.sum(axis=1, keepdims=True)) @ means


def _nearest(similarity: Floats, n: int) -> npt.NDArray[np.bool_]:
    """For each row, whether a column is among its `n` most similar."""
    n = min(n, similarity.shape[1])
    near = np.zeros(similarity.shape, bool)
    np.put_along_axis(near, np.argsort(-similarity, axis=1, kind="stable")[:, :n], True, axis=1)
    return near


def _directions(X: Floats) -> Floats:
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(float).tiny)
