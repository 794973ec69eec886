"""What a correction did: how far batches mix, and how far treatments stay apart, before and after."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from plateline.correct.context import Floats, Texts
from plateline.precision import average_precision

# Neighbours of the graph; those of LISI follow from its perplexity as in its paper.
NEIGHBOURS = 15
PERPLEXITY = 30
# More wells than this tell no more, and their distances would not fit.
MAX_WELLS = 5000
COLUMNS = {"metric": object, "about": object, "before": float, "after": float, "n": int, "reason": object}


def mixing_table(
    before: npt.ArrayLike, after: npt.ArrayLike, batches: npt.ArrayLike, treatments: npt.ArrayLike
) -> pd.DataFrame:
    """Metrics of batches and of biology, before and after a correction.

    Parameters
    ----------
    before, after : array_like of float, shapes (N, D) and (N, E)
        Wells by features, finite, on comparable scales.
    batches : array_like of str, shape (N,)
    treatments : array_like of str, shape (N,)
        Empty text for wells that count for batches only, such as controls.

    Returns
    -------
    DataFrame
        One row per metric: `metric`, `about` (``batch``: more is better mixed; ``biology``: more is better kept),
        `before`, `after` (float64, NaN where not estimable), `n` (wells), `reason` (empty, or why not estimable).

    Notes
    -----
    ``lisi_batch``: batches among a well's neighbours, 0 for one, 1 for all alike. ``silhouette_batch``: 1 less the
    absolute silhouette width of batches. ``graph_connectivity``: share of a treatment's wells that its neighbour graph
    holds together. ``lisi_treatment``: 1 where the neighbours are of one treatment, 0 for all alike.
    ``silhouette_treatment``: silhouette width of treatments, from -1 to 1. ``map_treatment``: mean average precision of
    the wells of a treatment among those of others, 0 to 1. All by cosine. Of more than 5000 wells as
    many are drawn, always the same.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    batches, treatments = np.asarray(batches, object), np.asarray(treatments, object)
    drawn = np.sort(np.random.default_rng(0).permutation(len(batches))[:MAX_WELLS])
    batches, treatments = batches[drawn], _replicated(treatments[drawn])
    known = np.flatnonzero(treatments != "")
    sides = [_directions(X[drawn]) for X in (before, after)]
    lacking = {
        "batch": "" if len(set(batches)) > 1 and len(batches) > 2 else f"{len(set(batches))} batch, 2 needed",
        "biology": "" if len(set(treatments[known])) > 1 else "fewer than two treatments with two wells",
    }
    metrics = {
        ("lisi_batch", "batch"): lambda X: _scaled_lisi(X, batches),
        ("silhouette_batch", "batch"): lambda X: 1 - np.abs(_silhouette(X, batches)).mean(),
        ("graph_connectivity", "biology"): lambda X: graph_connectivity(X[known], treatments[known]),
        ("lisi_treatment", "biology"): lambda X: 1 - _scaled_lisi(X[known], treatments[known]),
        ("silhouette_treatment", "biology"): lambda X: _silhouette(X[known], treatments[known]).mean(),
        ("map_treatment", "biology"): lambda X: _precision(X[known], treatments[known]),
    }
    rows = []
    for (name, about), measure in metrics.items():
        values = [np.nan, np.nan] if lacking[about] else [measure(X) for X in sides]
        rows.append((name, about, *values, len(known) if about == "biology" else len(batches), lacking[about]))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def lisi(X: npt.ArrayLike, labels: npt.ArrayLike, perplexity: float = PERPLEXITY) -> Floats:
    """Effective number of labels among the neighbours of each row.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Euclidean distances count.
    labels : array_like of str, shape (N,)
    perplexity : float
        Effective number of neighbours; three times as many are looked at, all others where there are fewer.

    Returns
    -------
    ndarray of float64, shape (N,)
        From 1 to the number of labels.

    References
    ----------
    Korsunsky et al. 2019, https://doi.org/10.1038/s41592-019-0619-0
    """
    X = np.asarray(X, np.float64)
    _, label = np.unique(np.asarray(labels, object), return_inverse=True)
    k = min(int(3 * perplexity), len(X) - 1)
    distance, near = NearestNeighbors(n_neighbors=k).fit(X).kneighbors()
    weight = _neighbour_weights(distance, min(perplexity, k / 3))
    shares = np.zeros((len(X), label.max() + 1))
    np.add.at(shares, (np.arange(len(X))[:, None], label[near]), weight)
    return 1 / (shares**2).sum(axis=1)


def graph_connectivity(X: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean over labels of the share of its rows in the largest piece that nearest neighbours hold together."""
    X, labels = np.asarray(X, np.float64), np.asarray(labels, object)
    k = min(NEIGHBOURS, len(X) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(return_distance=False)
    graph = csr_matrix((np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, k)), (len(X), len(X)))
    shares = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        piece = connected_components(graph[own][:, own], directed=False)[1]
        shares.append(np.bincount(piece).max() / len(own))
    return float(np.mean(shares))


def _neighbour_weights(distance: Floats, perplexity: float) -> Floats:
    """Gaussian weights (N, k) that sum to 1 and have the perplexity, by bisection of their precision."""
    distance = distance - distance[:, :1]
    scale = np.maximum(distance.mean(axis=1, keepdims=True), np.finfo(float).tiny)
    distance = distance / scale
    low, high = np.zeros((len(distance), 1)), np.full((len(distance), 1), 1e4)
    for _ in range(60):
        middle = (low + high) / 2
        weight = np.exp(-distance * middle)
        weight /= weight.sum(axis=1, keepdims=True)
        entropy = -(weight * np.log(weight + np.finfo(float).tiny)).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return weight


def _scaled_lisi(X: Floats, labels: Texts) -> float:
    """Mean LISI, 0 for one label and 1 for all."""
    return float((lisi(X, labels).mean() - 1) / (len(set(labels)) - 1))


def _precision(X: Floats, labels: Texts) -> float:
    """Mean over labels of the average precision of their rows."""
    _, label = np.unique(labels, return_inverse=True)
    found = average_precision(X, label)["average_precision"]
    return float(found.groupby(label).mean().mean())


def _silhouette(X: Floats, labels: Texts) -> Floats:
    _, label = np.unique(labels, return_inverse=True)
    return silhouette_samples(X, label, metric="cosine") if label.max() + 1 < len(X) else np.zeros(len(X))


def _replicated(treatments: Texts) -> Texts:
    """The treatments, without those of one well."""
    names, counts = np.unique(treatments, return_counts=True)
    return np.where(np.isin(treatments, names[counts > 1]), treatments, "").astype(object)


def _directions(X: Floats) -> Floats:
    return X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), np.finfo(float).tiny)
