"""Method `harmony`: soft clusters that hold every batch, and a linear correction of each batch within each cluster."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import kmeans_plusplus

from plateline.correct.context import BATCH, Floats

Singles = npt.NDArray[np.float32]

# Width of the soft clusters, and rounds until the objective moves by less than the shares.
SIGMA = 0.1
MAX_ROUNDS, ROUND_CHANGE = 20, 1e-3
# Wells whose clusters are redrawn at a time: the batches of the others stand still meanwhile.
BLOCK_SHARE = 0.05
# Wells and rounds that place the first centroids.
SEED_WELLS, SEED_ROUNDS = 5000, 10
TINY = np.float32(1e-12)


@dataclass
class Clusters:
    """State of the clustering: wells (N, D) of length 1, memberships (N, K), and what each batch has of a cluster."""

    directions: Singles
    membership: Singles
    batch: npt.NDArray[np.intp]  # (N,)
    observed: Floats  # (B, K)
    shares: Floats  # (B,)


class Harmony(TransformerMixin, BaseEstimator):
    """Harmony, written from its paper.

    Parameters
    ----------
    theta : float
        Pull towards clusters that hold every batch, from 0 (none).
    ridge : float
        Of the correction of a batch within a cluster, above 0; larger moves small batches less.
    n_clusters : int
        0 takes a thirtieth of the wells, at most 100.
    max_iterations : int
        Rounds of clustering and correction.
    seed : int
        Of the first centroids and the order of wells.

    Attributes
    ----------
    kind : str
        ``transductive``: sees features and batch of all wells.
    n_iterations_ : int
        Rounds until the clusters stood still.

    Notes
    -----
    Works on the features as they come: put `standardize` or `sphering` before it. float32 inside. Wells without any
    signal (all features 0) belong to no direction and are shared evenly.

    References
    ----------
    Korsunsky et al. 2019, https://doi.org/10.1038/s41592-019-0619-0
    """

    kind = "transductive"
    one_batch = "passed through"

    def __init__(
        self,
        *,
        theta: float = 2.0,
        ridge: float = 1.0,
        n_clusters: int = 0,
        max_iterations: int = 10,
        seed: int = 0,
    ):
        self.theta = theta
        self.ridge = ridge
        self.n_clusters = n_clusters
        self.max_iterations = max_iterations
        self.seed = seed

    def fit_transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells without what sets a batch apart within its cluster.

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
        X = np.asarray(X, np.float64)
        names, batch = np.unique(wells[BATCH].to_numpy(), return_inverse=True)
        rng = np.random.default_rng(self.seed)
        # In order of their batch a batch is a slice, which spares copies in every round.
        order = np.argsort(batch, kind="stable")
        wells_in, batch = X[order].astype(np.float32), batch[order]
        corrected, last = wells_in, np.inf
        clusters = self._first(wells_in, batch, len(names), rng)
        self.n_iterations_ = 0
        for _ in range(self.max_iterations):
            clusters.directions = _directions(corrected)
            objective = self._cluster(clusters, rng)
            corrected = _correct(wells_in, clusters, self.ridge)
            self.n_iterations_ += 1
            if abs(last - objective) < ROUND_CHANGE * 10 * abs(objective):
                break
            last = objective
        X = np.empty_like(X)
        X[order] = corrected
        return X

    def _first(self, X: Singles, batch: npt.NDArray[np.intp], n_batches: int, rng: np.random.Generator) -> Clusters:
        """Memberships by the distance to centroids of k-means on some of the wells."""
        directions = _directions(X)
        n_clusters = self.n_clusters or int(min(100, max(1, round(len(X) / 30))))
        n_clusters = min(n_clusters, len(X))
        some = directions[np.sort(rng.permutation(len(X))[:SEED_WELLS])]
        centroids, _ = kmeans_plusplus(some, n_clusters, random_state=int(rng.integers(2**31)))
        for _ in range(SEED_ROUNDS):
            nearest = (some @ centroids.T).argmax(axis=1)
            sums = np.eye(n_clusters, dtype=np.float32)[nearest].T @ some
            centroids = np.where(sums.any(axis=1)[:, None], _directions(sums), centroids)
        membership = _softmax(directions @ centroids.T, np.ones(n_clusters, np.float32))
        observed = _by_batch(membership, batch, n_batches)
        return Clusters(directions, membership, batch, observed, np.bincount(batch, minlength=n_batches) / len(X))

    def _cluster(self, clusters: Clusters, rng: np.random.Generator) -> float:
        """Redraw the memberships until the objective stands still; its value."""
        n = len(clusters.batch)
        blocks = np.array_split(rng.permutation(n), min(n, round(1 / BLOCK_SHARE)))
        blocks = [np.sort(block) for block in blocks]
        last = np.inf
        for _ in range(MAX_ROUNDS):
            centroids = _directions(clusters.membership.T @ clusters.directions)
            objective = sum(_redraw(clusters, block, centroids, self.theta) for block in blocks)
            objective += _diversity(clusters, self.theta)
            if abs(last - objective) < ROUND_CHANGE * abs(objective):
                break
            last = objective
        return objective


def _redraw(clusters: Clusters, block: npt.NDArray[np.intp], centroids: Singles, theta: float) -> float:
    """New memberships of a block of wells, given the batches of all others; its distance and entropy."""
    batch, old = clusters.batch[block], clusters.membership[block]
    n_batches = len(clusters.shares)
    observed = np.maximum(clusters.observed - _by_batch(old, batch, n_batches), 0)
    expected = np.outer(clusters.shares, observed.sum(axis=0))
    penalty = (((expected + 1) / (observed + 1)) ** theta).astype(np.float32)  # (B, K)
    similarity = clusters.directions[block] @ centroids.T  # (n, K)
    new = _softmax(similarity, penalty[batch])
    clusters.membership[block] = new
    clusters.observed = observed + _by_batch(new, batch, n_batches)
    distance = 2 * (new.sum(dtype=np.float64) - np.vdot(new, similarity))
    return float(distance + SIGMA * np.vdot(new, np.log(new + TINY)))


def _diversity(clusters: Clusters, theta: float) -> float:
    """Penalty of the objective for clusters that lack batches."""
    observed = clusters.observed
    expected = np.outer(clusters.shares, observed.sum(axis=0))
    return float(SIGMA * theta * (observed * np.log((observed + 1) / (expected + 1))).sum())


def _correct(X: Singles, clusters: Clusters, ridge: float) -> Singles:
    """The wells less their batch's ridge coefficients in each cluster, weighted by membership."""
    n_batches = len(clusters.shares)
    ends = np.searchsorted(clusters.batch, np.arange(n_batches + 1))
    slices = [slice(a, b) for a, b in pairwise(ends)]
    sums = np.stack([clusters.membership[rows].T @ X[rows] for rows in slices])  # (B, K, D)
    moves = _batch_coefficients(clusters.observed, sums.astype(np.float64), ridge).astype(np.float32)
    corrected = np.empty_like(X)
    for rows, move in zip(slices, moves, strict=True):
        corrected[rows] = X[rows] - clusters.membership[rows] @ move
    return corrected


def _batch_coefficients(observed: Floats, sums: Floats, ridge: float) -> Floats:
    """Coefficients (B, K, D) of each batch in each cluster, of a ridge regression on intercept and batch.

    The intercept is not shrunken. With one indicator per batch the normal equations are an arrow: solving each batch
    for itself leaves one equation for the intercept.
    """
    shrink = observed / (observed + ridge)  # (B, K)
    weight = (observed * ridge / (observed + ridge)).sum(axis=0)  # (K,)
    total = (sums * (ridge / (observed + ridge))[:, :, None]).sum(axis=0)
    intercept = total / np.maximum(weight, TINY)[:, None]  # (K, D)
    means = sums / np.maximum(observed, TINY)[:, :, None]
    return shrink[:, :, None] * (means - intercept)


def _softmax(similarity: Singles, penalty: Singles) -> Singles:
    """Memberships (n, K) that sum to 1: exp(-distance / sigma) times the penalty."""
    weight = similarity - similarity.max(axis=1, keepdims=True)
    weight *= np.float32(2 / SIGMA)
    np.exp(weight, out=weight)
    weight *= penalty
    weight /= weight.sum(axis=1, keepdims=True) + TINY
    return weight


def _by_batch(membership: Singles, batch: npt.NDArray[np.intp], n_batches: int) -> Floats:
    """Sum of the memberships of each batch (B, K); the wells stand in the order of their batches."""
    ends = np.searchsorted(batch, np.arange(n_batches + 1))
    return np.stack([membership[a:b].sum(axis=0, dtype=np.float64) for a, b in pairwise(ends)])


def _directions(X: Singles) -> Singles:
    """Rows of length 1; rows of zeros stay."""
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), TINY)
