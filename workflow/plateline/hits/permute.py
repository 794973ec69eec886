"""Two groups of wells on shared plates: is their difference more than chance, and how large is it.

Owns the permutation test within plates and the effect size beside it. The well is what is exchanged, the plate the
block within which it is; it knows nothing of compounds or families of tests.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Below this share of the value a difference is rounding, not signal.
ROUNDING = 1e-12
# Permutations drawn at once, so that memory is bounded by the batch.
BATCH = 4096


def groups_of(names: pd.Series) -> dict[str, npt.NDArray[np.intp]]:
    """Row numbers of each name, names sorted; rows without a name belong to none."""
    codes, unique = pd.factorize(names.to_numpy(), sort=True)
    return {name: np.flatnonzero(codes == code) for code, name in enumerate(unique)}


def permutation_test(
    values: FloatArray, plates: npt.NDArray, treated: BoolArray, *, n_permutations: int, seed: int | list[int]
) -> tuple[float, float]:
    """Chance, under exchangeable wells within plates, of a difference as large as the one between the two groups.

    Parameters
    ----------
    values : (W, F) float64
        Features of treated and negative wells, any unit.
    plates : (W,) array
        The block of each well; labels are exchanged within it.
    treated : (W,) bool
        The treated wells; the others are negative controls.
    n_permutations : int
        Largest number of relabellings enumerated, else the number drawn.
    seed : int or list of int
        Seeds the draws; unused when all relabellings are enumerated.

    Returns
    -------
    p, p_floor : float
        Exact share of relabellings, the observed one included, whose statistic is no smaller; or, drawn,
        (1 + hits) / (1 + draws). The floor is the smallest value p can take. Both NaN when no relabelling differs
        or no feature varies.

    Notes
    -----
    The statistic is the length of the sum of the treated wells' profiles, each feature centred and scaled within its
    plate over all wells of the test, whatever their label. This is the inverse-variance weighted sum of the plates'
    mean differences, and no affine correction of a plate, fitted on its negatives or not, can change it: that keeps
    the test exact after `correct`. Features with a NaN in any of the wells are left out. Ties count as hits.

    References
    ----------
    Phipson and Smyth 2010, doi:10.2202/1544-6115.1585
    """
    blocks = [rows for rows in groups_of(pd.Series(plates)).values() if 0 < treated[rows].sum() < len(rows)]
    sizes = [(len(rows), int(treated[rows].sum())) for rows in blocks]
    total = math.prod(math.comb(n, k) for n, k in sizes)
    scaled = [_scale(values[rows][:, np.isfinite(values).all(axis=0)]) for rows in blocks]
    if total == 1 or not any(block.any() for block in scaled):
        return np.nan, np.nan
    rotated = _rotate(np.vstack(scaled))
    scaled = np.split(rotated, np.cumsum([n for n, _ in sizes])[:-1])
    observed = sum(block[treated[rows]].sum(axis=0) for block, rows in zip(scaled, blocks, strict=True))
    # Equal relabellings differ by rounding of the sums.
    limit = (observed**2).sum() * (1 - 1e-9)
    if total <= n_permutations:
        # With groups of equal size the swap of all labels gives the same statistic.
        same = 2 if all(n == 2 * k for n, k in sizes) else 1
        return float((_all_statistics(scaled, sizes) >= limit).mean()), same / total
    rng = np.random.default_rng(seed)
    batches = [min(BATCH, n_permutations - start) for start in range(0, n_permutations, BATCH)]
    hits = sum((_drawn_statistics(scaled, sizes, n, rng) >= limit).sum() for n in batches)
    return float(1 + hits) / (1 + n_permutations), 1 / (1 + n_permutations)


def effect_size(values: FloatArray, plates: npt.NDArray, treated: BoolArray) -> float:
    """Root mean square over features of the standardised mean difference, freed of what noise alone would give.

    Parameters
    ----------
    values, plates, treated
        As for `permutation_test`.

    Returns
    -------
    float
        In standard deviations within plate and group; 0 when the difference is no larger than noise; NaN with two or
        fewer degrees of freedom or when no feature varies within the groups.

    Notes
    -----
    d^2 of a feature is a scaled noncentral F(1, df) whose mean is df / (df - 2) * (delta^2 + 1 / m), m being the sum
    over plates of the harmonic weights; this is solved for delta^2 and averaged. Features with NaN are left out.
    """
    values = values[:, np.isfinite(values).all(axis=0)]
    weight, degrees, difference, within = 0.0, 0, np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for rows in groups_of(pd.Series(plates)).values():
        one, other = values[rows[treated[rows]]], values[rows[~treated[rows]]]
        if not len(one) or not len(other):
            continue
        share = len(one) * len(other) / len(rows)
        weight += share
        difference += share * (one.mean(axis=0) - other.mean(axis=0))
        within += len(one) * one.var(axis=0) + len(other) * other.var(axis=0)
        degrees += len(rows) - 2
    varies = within > (ROUNDING * np.abs(values).max(axis=0, initial=0)) ** 2
    if degrees <= 2 or not varies.any():
        return np.nan
    squared = (difference[varies] / weight) ** 2 / (within[varies] / degrees)
    return float(np.sqrt(max(0.0, ((degrees - 2) / degrees * squared).mean() - 1 / weight)))


def _scale(block: FloatArray) -> FloatArray:
    """Wells of one plate (W, F) centred and divided by the standard deviation of all of them; constants become 0."""
    centred = block - block.mean(axis=0)
    sd = centred.std(axis=0)
    varies = sd > ROUNDING * np.abs(block).max(axis=0, initial=0)
    return np.divide(centred, sd, out=np.zeros_like(centred), where=varies)


def _rotate(scaled: FloatArray) -> FloatArray:
    """The same wells in at most W dimensions: lengths of sums survive a rotation, and fewer columns are faster."""
    wells, features = scaled.shape
    return scaled if features <= wells else np.transpose(np.linalg.qr(scaled.T, mode="r"))


def _all_statistics(scaled: list[FloatArray], sizes: list[tuple[int, int]]) -> FloatArray:
    """Statistic of every relabelling, the labels exchanged within each plate."""
    sums = np.zeros((1, scaled[0].shape[1]))
    for block, (n, k) in zip(scaled, sizes, strict=True):
        chosen = np.array(list(itertools.combinations(range(n), k)))
        of_plate = block[chosen].sum(axis=1)
        sums = (sums[:, None] + of_plate[None]).reshape(-1, sums.shape[1])
    return (sums**2).sum(axis=1)


def _drawn_statistics(
    scaled: list[FloatArray], sizes: list[tuple[int, int]], draws: int, rng: np.random.Generator
) -> FloatArray:
    """Statistic of random relabellings (draws,)."""
    chosen = np.hstack([_draw(n, k, draws, rng) for n, k in sizes])
    sums = chosen @ np.vstack(scaled)
    return np.einsum("ij,ij->i", sums, sums)


def _draw(n: int, k: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Random subsets of k of n wells as rows of ones and zeros (draws, n), all subsets equally likely.

    References
    ----------
    Floyd's algorithm, in Bentley and Floyd 1987, doi:10.1145/30401.315746
    """
    chosen, rows = np.zeros((draws, n)), np.arange(draws)
    for last in range(n - k, n):
        pick = rng.integers(last + 1, size=draws)
        chosen[rows, np.where(chosen[rows, pick] > 0, last, pick)] = 1
    return chosen
