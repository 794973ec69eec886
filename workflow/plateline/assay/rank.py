"""Rank tests whose p comes from permuting positions among the wells.

Every statistic is of the ranks of the values, so a few hits or broken wells cannot make or hide a pattern, and any
monotone change of the readout leaves p as it is.
"""

from math import comb, factorial, prod

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from plateline.assay.controls import Floats

Groups = npt.NDArray[np.int64]


def permuted_ranks(values: Floats, n_permutations: int, seed: int) -> Floats:
    """Mid-ranks of the values less their mean, as observed (row 0) and permuted, (1 + B, N)."""
    ranks = rankdata(values) - (np.size(values) + 1) / 2
    rng = np.random.default_rng(seed)
    return np.vstack([ranks, rng.permuted(np.tile(ranks, (n_permutations, 1)), axis=1)])


def between_groups(ranks: Floats, groups: Groups) -> Floats:
    """Kruskal and Wallis' H, of ranks with ties, for each row of ranks.

    Parameters
    ----------
    ranks : ndarray of float64, shape (B, N)
        Centred mid-ranks.
    groups : ndarray of int, shape (N,)
        Group of each well, any numbers.

    Returns
    -------
    ndarray of float64, shape (B,)
        0 to N - 1; 0 where all values are equal.
    """
    member = (groups[:, None] == np.unique(groups)).astype(np.float64)  # (N, G)
    total = np.square(ranks[0]).sum() / (groups.size - 1)
    between = (np.square(ranks @ member) / member.sum(axis=0)).sum(axis=1)
    return between / total if total else np.zeros(len(ranks))


def along_lines(ranks: Floats, lines: Groups) -> Floats:
    """Spearman's correlation of the values with the number of the line, for each row of ranks, (B,)."""
    place = rankdata(lines) - (lines.size + 1) / 2
    scale = np.sqrt(np.square(place).sum() * np.square(ranks[0]).sum())
    return ranks @ place / scale if scale else np.zeros(len(ranks))


def tail(statistic: Floats) -> float:
    """Share of all statistics at least as large as the first, which counts as one of them."""
    # Equal sums of ranks differ in their last digits with the order of addition.
    return float(np.mean(statistic >= statistic[0] - 1e-9 * max(1.0, abs(statistic[0]))))


def smallest_p(groups: Groups, n_permutations: int, *, ordered: bool) -> float:
    """The smallest p the test could give: of its arrangements, or of the permutations drawn.

    Parameters
    ----------
    groups : ndarray of int, shape (N,)
        Group, or line, of each well.
    n_permutations : int
        Drawn.
    ordered : bool
        Whether the order of the groups counts, as along the lines of a plate; turned round it gives the same p.
    """
    sizes = np.unique(groups, return_counts=True)[1].tolist()
    arrangements = prod(comb(sum(sizes[: i + 1]), n) for i, n in enumerate(sizes))
    same = 2 if ordered else prod(factorial(sizes.count(n)) for n in set(sizes))
    return max(min(1.0, same / arrangements), 1 / (n_permutations + 1))


def rank_biserial(ranks: Floats, marked: npt.NDArray[np.bool_]) -> float:
    """Chance that a marked well reads higher than another one, less the chance that it reads lower; ties count as 0."""
    gap = ranks[marked].mean() - ranks[~marked].mean()
    return float(2 * gap / ranks.size)


def epsilon_squared(statistic: float, n: int, n_groups: int) -> float:
    """Share of the variance of ranks that lies between groups, less what chance puts there, at least 0."""
    return max(0.0, (statistic - n_groups + 1) / (n - n_groups)) if n > n_groups else np.nan
