"""Mean average precision: whether the wells of a treatment find each other before they find other wells.

Owns the ranking, its mean over a treatment and its p value against random rankings. Which wells are replicates and
which are rivals is the caller's question; similarity is the cosine. Nothing here knows of plates beyond a block.
"""

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# Similarities, or random means, that are held at once.
LARGEST = 1 << 22


def average_precision(
    values: FloatArray,
    labels: npt.ArrayLike,
    *,
    rivals: npt.ArrayLike | None = None,
    blocks: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """How far up its replicates stand when all wells are ranked by their similarity to one of them.

    Parameters
    ----------
    values : (N, F) float64
        Profiles without NaN.
    labels : (N,) int
        Wells of one label are replicates; a well with -1 has none and is not ranked for.
    rivals : (N,) bool, optional
        Wells that replicates are ranked against, whatever their label; None takes all wells of another label from 0.
    blocks : (N,) int, optional
        Rivals must share the block (plate) of the well they are ranked for.

    Returns
    -------
    DataFrame
        One row per well: `average_precision` (0 to 1; NaN without a replicate or a rival), `n_positive`, `n_total`.

    Notes
    -----
    Cosine similarity, compared as float32 distance; among equal ones replicates come first, as copairs has it. A
    profile of zeros has no direction and gives NaN to nobody: its similarity to all others is 0.

    References
    ----------
    Kalinin et al. 2025, doi:10.1038/s41467-025-60306-2
    """
    labels = np.asarray(labels)
    rival = labels >= 0 if rivals is None else np.asarray(rivals, dtype=bool)
    block = np.zeros(len(labels), dtype=np.int64) if blocks is None else np.asarray(blocks)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values, dtype=np.float64), where=length > 0)
    found, ends = _replicates(unit, labels)
    columns = np.flatnonzero(rival)
    score, total = np.full(len(labels), np.nan), np.zeros(len(labels), dtype=np.int64)
    wells = np.flatnonzero(labels >= 0)
    for chunk in np.array_split(wells, max(1, len(wells) * len(columns) // LARGEST)):
        distance = np.float32(1) - (unit[chunk] @ unit[columns].T).astype(np.float32)
        _rank(distance, chunk, columns, (labels, block), (found, ends), (score, total))
    return pd.DataFrame({"average_precision": score, "n_positive": np.diff(ends), "n_total": total})


def _replicates(unit: FloatArray, labels: IntArray) -> tuple[npt.NDArray[np.float32], IntArray]:
    """Distances from every well to its replicates, sorted, one well after the other, and where each well's begin."""
    near: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(labels)
    for name in np.unique(labels[labels >= 0]):
        own = np.flatnonzero(labels == name)
        distance = np.float32(1) - (unit[own] @ unit[own].T).astype(np.float32)
        np.fill_diagonal(distance, np.inf)  # a well is no replicate of itself
        for well, row in zip(own, np.sort(distance, axis=1)[:, :-1], strict=True):
            near[well] = row
    return np.concatenate([*near, np.zeros(0, np.float32)]), np.cumsum([0, *map(len, near)])


@numba.njit(cache=True)
def _rank(distance, wells, columns, names, replicates, out):  # pragma: no cover, compiled
    """Fill in average precision and the number ranked of some wells, from their distances to the rivals (W, R)."""
    labels, block = names
    found, ends = replicates
    for row in range(len(wells)):
        well = wells[row]
        own = found[ends[well] : ends[well + 1]]
        before, rivals = np.zeros(len(own) + 1), 0
        for place in range(len(columns)):
            other = columns[place]
            if labels[other] != labels[well] and block[other] == block[well]:
                rivals += 1
                # Replicates that are strictly farther have this rival before them.
                before[np.searchsorted(own, distance[row, place], side="right")] += 1
        out[1][well] = len(own) + rivals
        if len(own) and rivals:
            ahead, sum_of_shares = 0.0, 0.0
            for hit in range(len(own)):
                ahead += before[hit]
                sum_of_shares += (hit + 1) / (hit + 1 + ahead)
            out[0][well] = sum_of_shares / len(own)


def mean_average_precision(precision: pd.DataFrame, names: pd.Series, *, n_null: int, seed: int) -> pd.DataFrame:
    """Mean average precision of each treatment, with p against random rankings of as many wells.

    Parameters
    ----------
    precision : DataFrame
        From `average_precision`.
    names : Series
        Treatment of each well; wells without average precision do not count.
    n_null : int
        Random rankings drawn.
    seed : int
        Seeds them; every pair of numbers of replicates and rivals has its own stream.

    Returns
    -------
    DataFrame
        Index treatment, sorted: `map`, `p` and `n_wells`. p is (1 + rankings with a larger mean) / (1 + rankings);
        wells with the same numbers share their random rankings, which supposes nothing of their independence.

    References
    ----------
    Kalinin et al. 2025, doi:10.1038/s41467-025-60306-2
    """
    known = precision["average_precision"].notna().to_numpy()
    wells, names = precision[known], names[known]
    pairs, which = np.unique(wells[["n_positive", "n_total"]].to_numpy(), axis=0, return_inverse=True)
    nulls = [_random_precision(int(k), int(n), n_null, [seed, int(k), int(n)]) for k, n in pairs]
    codes, known_names = pd.factorize(names.to_numpy(), sort=True)
    number = np.bincount(codes, minlength=len(known_names))
    shares = np.zeros((len(known_names), len(pairs)))
    np.add.at(shares, (codes, which.ravel()), 1 / number[codes])
    score = np.bincount(codes, wells["average_precision"], minlength=len(known_names)) / number
    larger = np.zeros(len(known_names), dtype=np.int64)
    for some in np.array_split(np.arange(len(score)), max(1, len(score) * n_null // LARGEST)):
        larger[some] = (shares[some] @ np.reshape(nulls, (-1, n_null)) > score[some, None]).sum(axis=1)
    columns = {"map": score, "p": (1 + larger) / (1 + n_null), "n_wells": number}
    return pd.DataFrame(columns, index=pd.Index(known_names, name="Metadata_Treatment", dtype=object))


def _random_precision(positive: int, total: int, draws: int, seed: list[int]) -> FloatArray:
    """Average precision of random rankings (draws,): all places of the replicates are equally likely."""
    rng = np.random.default_rng(seed)
    places = np.sort(_choose(positive, total, draws, rng), axis=1)
    return (np.arange(1, positive + 1) / (places + 1)).mean(axis=1)


def _choose(number: int, total: int, draws: int, rng: np.random.Generator) -> IntArray:
    """Different places out of `total`, (draws, number), all sets equally likely."""
    if number * number > total:
        return np.argsort(rng.random((draws, total)), axis=1)[:, :number]
    # Few of many seldom meet: draw again those rows where two did.
    places = rng.integers(total, size=(draws, number))
    while len(again := np.flatnonzero((np.diff(np.sort(places, axis=1), axis=1) == 0).any(axis=1))):
        places[again] = rng.integers(total, size=(len(again), number))
    return places
