"""Whether a readout depends on where a well stands: edge, rows, columns, dispense patterns, single positions.

Only wells of ONE treatment are compared, and p comes from permuting positions among them; `layout.one_treatment`
chooses the wells. One test stands apart, `single_samples`, and says what it supposes. Each pattern is tested by itself:
a strong edge also shows in the rows and columns at the edge.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.assay.controls import MAD_TO_SD, Floats, percentiles
from plateline.assay.layout import MIN_POSITIONS
from plateline.assay.rank import (
    Groups,
    along_lines,
    between_groups,
    epsilon_squared,
    permuted_ranks,
    rank_biserial,
    smallest_p,
    tail,
)
from plateline.identity import SHAPES, row_number, split_well

# Wells of the smaller side of an edge test: with fewer, one odd well is the edge.
MIN_SIDE = 3
# Iglewicz and Hoaglin 1993, "How to detect and handle outliers": 3.5 of their modified z.
OUTLIER_Z = 3.5
_TRIM = 0.2
_MIN_LINE = 2
NOTHING: dict[str, Any] = {
    "n_wells": 0,
    "effect_size": np.nan,
    "difference": np.nan,
    "low": np.nan,
    "high": np.nan,
    "relative": np.nan,
    "p": np.nan,
    "p_floor": np.nan,
    "detail": "",
    "reason": "",
}
# Name of a pattern -> (what a line or group of it is called, whether the groups have an order).
PATTERNS = {
    "row": ("rows", False),
    "column": ("columns", False),
    "row gradient": ("rows", True),
    "column gradient": ("columns", True),
    "alternate rows": ("alternate rows", False),
    "alternate columns": ("alternate columns", False),
    "quadrants": ("quadrants", False),
    "eight tips": ("tips", False),
}


def on_edge(wells: list[str], shape: int) -> npt.NDArray[np.bool_]:
    """Whether each well stands in the outermost ring of a plate of that shape, (N,)."""
    n_rows, n_columns = SHAPES[shape]
    rows, columns = _coordinates(wells)
    return (rows == 0) | (rows == n_rows - 1) | (columns == 0) | (columns == n_columns - 1)


def edge_effect(
    values: npt.ArrayLike, wells: list[str], *, shape: int, n_permutations: int, confidence: float, seed: int
) -> dict[str, Any]:
    """How the wells of the outermost ring differ from the others, all holding one treatment.

    Parameters
    ----------
    values : array_like of float, shape (N,)
        Readout of each well, any unit; NaN wells are left out.
    wells : list of str, length N
        Canonical names.
    shape : int
        Wells of the plate, a key of `identity.SHAPES`.
    n_permutations : int
        Of the positions, and resamples of the wells for the interval.
    confidence : float
        Of the interval, between 0 and 1.
    seed : int
        Of both.

    Returns
    -------
    dict
        `n_wells`; `effect_size`, the rank-biserial correlation: -1 where every edge well reads below every other, 0
        without effect; `difference`, 20 % trimmed mean of the edge less that of the others in the unit of the readout,
        with its bootstrap interval `low` to `high` (wells resampled on each side); `relative`, the difference as a
        share of the others, NaN unless all values are above zero; two-sided `p` of the rank sum under permuted
        positions and the smallest it could be, `p_floor`; `detail`; `reason`, empty or ``not estimable: ...``.

    Notes
    -----
    32 scattered wells hold about 6 edge wells. With a CV of 20 % their edge must differ by about 30 % to be found with
    power 0.9 (tests/benchmarks/edge.py); no finding among few wells is no proof of a flat plate: read the interval.
    The order of wells does not matter. With few wells on a side the interval is too narrow.

    Examples
    --------
    >>> wells = ["A01", "A05", "A09", "H03", "C03", "C07", "D05", "E09", "F06"]
    >>> values, options = [8, 7, 9, 6, 20, 22, 19, 21, 18], {"n_permutations": 999, "confidence": 0.9, "seed": 0}
    >>> found = edge_effect(values, wells, shape=96, **options)
    >>> found["effect_size"], found["difference"], found["relative"]
    (-1.0, -12.5, -0.625)
    """
    read, wells = _finite(values, wells)
    edge = on_edge(wells, shape)
    sides = {"on the edge": int(edge.sum()), "elsewhere": int((~edge).sum())}
    reason = _few_wells(len(wells)) or next(
        (f"not estimable: {n} wells {where}, at least {MIN_SIDE} needed" for where, n in sides.items() if n < MIN_SIDE),
        "",
    )
    found = NOTHING | {"n_wells": len(wells), "reason": reason}
    if reason or (reason := _no_spread(read)):
        return found | {"reason": reason}
    detail = f"{sides['on the edge']} wells on the edge, {sides['elsewhere']} elsewhere"
    tested = _tested(read, edge.astype(np.int64), n_permutations, seed, ordered=False)
    return found | tested | _two_sides(read, edge, n_permutations, confidence, seed) | {"detail": detail}


def pattern_effect(
    values: npt.ArrayLike, wells: list[str], pattern: str, *, n_permutations: int, confidence: float, seed: int
) -> dict[str, Any]:
    """How a readout differs between the rows, columns or dispense groups of one treatment's wells.

    Parameters
    ----------
    values, wells, n_permutations, confidence, seed
        As in `edge_effect`.
    pattern : str
        A name of `PATTERNS`: ``row``, ``column`` (any difference between them, Kruskal-Wallis), ``row gradient``,
        ``column gradient`` (rise or fall along them, Spearman), ``alternate rows``, ``alternate columns``,
        ``quadrants`` (a 384-well plate stamped from four of 96) and ``eight tips`` (rows that one tip of eight served).

    Returns
    -------
    dict
        As `edge_effect`. `effect_size` is the share of the variance of ranks between groups beyond chance (epsilon
        squared, 0 to 1), Spearman's correlation for a gradient, the rank-biserial correlation for two groups.
        `difference` is given for two groups (even less odd, counted from 1) and for gradients (last line less first
        on the straight line of least squares); else NaN. Groups with a single well are left out and not counted.

    Notes
    -----
    A gradient is asked beside the lines themselves since it costs one degree of freedom where they cost one each: few
    wells can tell a slope and not 16 rows.

    References
    ----------
    Kruskal, Wallis 1952, https://doi.org/10.1080/01621459.1952.10483441
    Kelley 1935 (epsilon squared), https://doi.org/10.1073/pnas.21.9.554
    """
    read, wells = _finite(values, wells)
    groups = _groups(wells, pattern)
    noun, ordered = PATTERNS[pattern]
    if not ordered:
        kept = pd.Series(groups).groupby(groups).transform("size").to_numpy() >= _MIN_LINE
        read, groups = read[kept], groups[kept]
    n_groups, needed = np.unique(groups).size, 3 if ordered else 2
    reason = _few_wells(read.size)
    if n_groups < needed:
        each = "" if ordered else f" with {_MIN_LINE} wells of the treatment"
        reason = f"not estimable: {n_groups} {noun}{each}, at least {needed} needed"
    found = NOTHING | {"n_wells": read.size, "reason": reason}
    if reason or (reason := _no_spread(read)):
        return found | {"reason": reason}
    found |= _tested(read, groups, n_permutations, seed, ordered=ordered) | {"detail": f"{n_groups} {noun}"}
    if ordered:
        return found | _slope(read, groups, n_permutations, confidence, seed)
    if n_groups == 2:
        return found | _two_sides(read, groups == groups.max(), n_permutations, confidence, seed)
    return found


def outliers(values: npt.ArrayLike, wells: list[str]) -> dict[str, Any]:
    """Wells of one treatment that read unlike the others, as `detail`; `effect_size` is the largest robust z.

    Parameters
    ----------
    values, wells
        As in `edge_effect`.

    Returns
    -------
    dict
        As `edge_effect`, without p: which wells stand out is told by abs(value - median) / (1.4826 MAD) of at least
        `OUTLIER_Z`; `detail` names them in reading order. Of normal wells 1 in 2000 stands out, of few wells more.
    """
    read, wells = _finite(values, wells)
    found = NOTHING | {"n_wells": len(wells), "reason": _few_wells(len(wells))}
    if found["reason"]:
        return found
    away = np.abs(read - np.median(read))
    mad = MAD_TO_SD * np.median(away)
    if mad == 0:
        return found | {"reason": "not estimable: more than half of the wells have one value"}
    rows, columns = _coordinates(wells)
    order = np.lexsort((columns, rows))
    named = [wells[i] for i in order if away[i] / mad >= OUTLIER_Z]
    return found | {"effect_size": float(away.max() / mad), "detail": ", ".join(named)}


def single_samples(table: pd.DataFrame, shape: int) -> tuple[pd.DataFrame, str]:
    """Sample wells of a library plate, for an edge test that stands apart from those of one treatment.

    Parameters
    ----------
    table : DataFrame
        From `layout.places`, NaN wells of the readout left out.
    shape : int
        Wells of the plate.

    Returns
    -------
    chosen : DataFrame
        The sample wells.
    reason : str
        Empty, or ``not estimable:`` and why.

    Notes
    -----
    This is not a test of wells of one treatment, and its row is not one of theirs: it has its own name and family.
    Where every sample compound has exactly one well, at one dose, no treatment can be aligned with row, column or
    edge; what the permutation then tests is whether position tells the readout, under the supposition that compounds
    were put on the plate without regard to what they do. That supposition is the reader's: libraries plated by
    scaffold or potency break it, and the wells cannot tell. So the answer is a hint to be confirmed with scattered
    control wells, never a ground for correcting. It is refused where a compound has several wells or doses (they may
    be laid out on purpose), where the plate map does not name the compounds, and where a side of the plate holds
    fewer than three sample wells (edge and row or column would be one).
    """
    chosen = table[table["kind"] == "sample"]
    n_rows, n_columns = SHAPES[shape]
    ends = {"the first row": chosen["row"] == 0, "the last row": chosen["row"] == n_rows - 1}
    ends |= {"the first column": chosen["column"] == 0, "the last column": chosen["column"] == n_columns - 1}
    reason = ""
    if len(chosen) < MIN_POSITIONS:
        reason = f"{len(chosen)} sample wells, at least {MIN_POSITIONS} needed"
    elif (chosen["treatment"] == "").any():
        reason = "the plate map does not name what is in every sample well"
    elif chosen["compound"].duplicated().any():
        reason = "compounds have several wells or doses, which may be laid out on purpose"
    elif chosen["dose"].nunique(dropna=False) > 1:
        reason = "samples have several doses, which may be laid out on purpose"
    elif bare := [end for end, there in ends.items() if there.sum() < MIN_SIDE]:
        reason = f"fewer than {MIN_SIDE} sample wells in {', '.join(bare)}"
    return chosen, f"not estimable: {reason}" if reason else ""


def _coordinates(wells: list[str]) -> tuple[Groups, Groups]:
    """Rows and columns of the wells, counted from 0."""
    split = [split_well(well) for well in wells]
    rows = np.array([row_number(letters) for letters, _ in split], np.int64)
    return rows, np.array([int(digits) - 1 for _, digits in split], np.int64)


def _groups(wells: list[str], pattern: str) -> Groups:
    """Group of each well under the pattern."""
    rows, columns = _coordinates(wells)
    return {
        "row": rows,
        "column": columns,
        "row gradient": rows,
        "column gradient": columns,
        "alternate rows": rows % 2,
        "alternate columns": columns % 2,
        "quadrants": 2 * (rows % 2) + columns % 2,
        "eight tips": rows % 8,
    }[pattern]


def _finite(values: npt.ArrayLike, wells: list[str]) -> tuple[Floats, list[str]]:
    """Wells with a finite value, by name: so that seeded draws do not depend on the order of the rows."""
    known = sorted((well, float(v)) for well, v in zip(wells, np.asarray(values), strict=True) if np.isfinite(v))
    return np.array([value for _, value in known]), [well for well, _ in known]


def _few_wells(n: int) -> str:
    return f"not estimable: {n} wells, at least {MIN_POSITIONS} needed" if n < MIN_POSITIONS else ""


def _no_spread(values: Floats) -> str:
    return "not estimable: all wells have one value" if np.ptp(values) == 0 else ""


def _tested(values: Floats, groups: Groups, n_permutations: int, seed: int, *, ordered: bool) -> dict[str, float]:
    """Effect size, p and its floor of a test over groups or along lines."""
    ranks = permuted_ranks(values, n_permutations, seed)
    floor = smallest_p(groups, n_permutations, ordered=ordered)
    if ordered:
        rho = along_lines(ranks, groups)
        return {"effect_size": float(rho[0]), "p": tail(np.abs(rho)), "p_floor": floor}
    h = between_groups(ranks, groups)
    n_groups = np.unique(groups).size
    size = epsilon_squared(float(h[0]), groups.size, n_groups)
    if n_groups == 2:
        size = rank_biserial(ranks[0], groups == groups.max())
    return {"effect_size": size, "p": tail(h), "p_floor": floor}


def _trimmed_mean(values: Floats) -> Floats:
    """Mean over the last axis without the lowest and highest fifth of the wells."""
    cut = int(_TRIM * values.shape[-1])
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def _two_sides(
    values: Floats, marked: npt.NDArray[np.bool_], n_resamples: int, confidence: float, seed: int
) -> dict[str, float]:
    """Difference of the trimmed means, marked less others, its interval, and as a share of the others."""
    rng = np.random.default_rng(seed)
    here, there = values[marked], values[~marked]
    drawn = [_trimmed_mean(rng.choice(side, (n_resamples, side.size))) for side in (here, there)]
    low, high = percentiles(drawn[0] - drawn[1], confidence)
    difference, usual = float(_trimmed_mean(here) - _trimmed_mean(there)), float(_trimmed_mean(there))
    relative = difference / usual if values.min() > 0 else np.nan
    return {"difference": difference, "low": low, "high": high, "relative": relative}


def _slope(values: Floats, lines: Groups, n_resamples: int, confidence: float, seed: int) -> dict[str, float]:
    """Last line less first on the line of least squares, with its interval over resampled wells."""
    rng = np.random.default_rng(seed)
    drawn = np.vstack([np.arange(values.size), rng.integers(values.size, size=(n_resamples, values.size))])
    x, y = lines[drawn].astype(np.float64), values[drawn]
    x -= x.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample of one line has no slope
        change = (x * y).sum(axis=1) / np.square(x).sum(axis=1) * np.ptp(lines)
    low, high = percentiles(change[1:], confidence)
    start = float(values.mean() - change[0] * (lines.mean() - lines.min()) / np.ptp(lines))
    relative = float(change[0] / start) if values.min() > 0 and start > 0 else np.nan
    return {"difference": float(change[0]), "low": low, "high": high, "relative": relative}
