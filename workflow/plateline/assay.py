"""How well a plate separates its positive from its negative controls, for the declared readouts.

Owns Z', robust Z' and SSMD, their intervals, and the answer `not estimable` with its reason. The well is the
observation and the plate the block: cells and fields never count as n. A positive control is compared with the negative
controls of its own plate only; `reference`, `untreated` and sample wells take no part.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import PlatelineError
from plateline.identity import READOUT

ALL_POSITIVE = "all positive"
# MAD times this is the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826
MIN_WELLS = 2
NEEDED = ["Metadata_Plate", "Metadata_Well", "Metadata_Status", "Metadata_ControlType", "Metadata_Compound"]

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats, Floats], Floats]


def zprime(negative: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
    """Z' factor, 1 - 3 (sd_negative + sd_positive) / abs(mean_positive - mean_negative).

    Parameters
    ----------
    negative, positive : array_like of float64, shape (..., N) and (..., P)
        Readout of the control wells, in any unit, without NaN; at least two wells each. Leading axes are repeats.

    Returns
    -------
    ndarray of float64, shape (...)
        1 without any spread, minus infinity where the means are equal, NaN where there is neither spread nor
        difference.

    Raises
    ------
    PlatelineError
        If a group has fewer than two wells.

    Notes
    -----
    Standard deviations are those of a sample (N - 1).

    References
    ----------
    Zhang, Chung, Oldenburg 1999, https://doi.org/10.1177/108705719900400206

    Examples
    --------
    >>> float(zprime([-1, 0, 1], [29, 30, 31]))
    0.8
    """
    (center_n, sd_n), (center_p, sd_p) = _mean_sd(negative, "negative"), _mean_sd(positive, "positive")
    return 1 - 3 * _divide(sd_n + sd_p, np.abs(center_p - center_n))


def robust_zprime(negative: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
    """Z' factor with medians for means and 1.4826 MAD for standard deviations.

    Parameters
    ----------
    negative, positive : array_like of float64, shape (..., N) and (..., P)
        As in `zprime`.

    Returns
    -------
    ndarray of float64, shape (...)
        As in `zprime`. More than half of the wells of a group at one value count as no spread in that group.

    Raises
    ------
    PlatelineError
        If a group has fewer than two wells.

    References
    ----------
    Birmingham et al. 2009, https://doi.org/10.1038/nmeth.1351

    Examples
    --------
    >>> round(float(robust_zprime([-1, 0, 1, 100], [29, 30, 31])), 4)
    0.6985
    """
    (center_n, mad_n), (center_p, mad_p) = _median_mad(negative, "negative"), _median_mad(positive, "positive")
    return 1 - 3 * MAD_TO_SD * _divide(mad_n + mad_p, np.abs(center_p - center_n))


def ssmd(negative: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
    """Strictly standardised mean difference, (mean_positive - mean_negative) / sqrt(var_negative + var_positive).

    Parameters
    ----------
    negative, positive : array_like of float64, shape (..., N) and (..., P)
        As in `zprime`.

    Returns
    -------
    ndarray of float64, shape (...)
        Above zero where the positive controls read higher; infinite without any spread, NaN where there is neither
        spread nor difference.

    Raises
    ------
    PlatelineError
        If a group has fewer than two wells.

    Notes
    -----
    The unpaired estimate for two groups of unequal variance: a strong positive control rarely spreads like the
    negative ones, so the form with one pooled variance does not fit plate quality.

    References
    ----------
    Zhang 2007, https://doi.org/10.1016/j.ygeno.2006.12.014

    Examples
    --------
    >>> float(ssmd([-3, 0, 3], [6, 10, 14]))
    2.0
    """
    (center_n, sd_n), (center_p, sd_p) = _mean_sd(negative, "negative"), _mean_sd(positive, "positive")
    return _divide(center_p - center_n, np.hypot(sd_n, sd_p))


STATISTICS: dict[str, Statistic] = {"zprime": zprime, "robust_zprime": robust_zprime, "ssmd": ssmd}
COLUMNS = [
    "Metadata_Plate",
    "readout",
    "positive",
    "n_negative",
    "n_positive",
    *(name + bound for name in STATISTICS for bound in ("", "_low", "_high")),
    "cv_negative",
    "reason",
]


def plate_statistics(
    wells: pd.DataFrame, readouts: list[str], *, n_bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Z', robust Z' and SSMD of one plate, each with n and interval, for every readout and positive control.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table, one row per well: `Metadata_Plate`, `Metadata_Well`, `Metadata_Status`,
        `Metadata_ControlType`, `Metadata_Compound` and one column `Metadata_Readout_{name}` per readout.
    readouts : list of str
        Names without the prefix; any unit.
    n_bootstrap : int
        Resamples of the wells, at least 1.
    confidence : float
        Of the intervals, between 0 and 1.
    seed : int
        Every row starts from it anew, so a further readout changes no interval of another.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`. Per readout first ``all positive`` when the positive wells hold several compounds, then each
        positive compound by name. `n_negative`, `n_positive` count wells with status ``ok`` and a finite readout.
        `cv_negative` (sd / mean, a fraction) is NaN for fewer than two negative wells or values at or below zero,
        where it has no meaning. `reason` is empty, or starts with ``not estimable:``; the numbers it speaks of are
        NaN. A bound may be infinite where resamples have no difference, or no spread.

    Raises
    ------
    PlatelineError
        If the table holds several plates or lacks a column.

    Notes
    -----
    The percentile bootstrap draws negative and positive wells separately. The interval says how surely these control
    wells tell the statistic of this plate; it says nothing of other runs. With a handful of wells it is too narrow
    and sits too high, since a resample of n wells spreads sqrt(1 - 1 / n) as far: read it with n.
    The order of rows does not matter. A table without rows gives a table without rows.

    References
    ----------
    Efron 1979, https://doi.org/10.1214/aos/1176344552
    """
    _check(wells, readouts)
    if wells.empty:
        return _table([])
    # Sorted, so that the seeded resamples do not depend on the order of the rows.
    usable = wells[wells["Metadata_Status"] == "ok"].sort_values("Metadata_Well", kind="stable")
    rows = []
    for readout in readouts:
        negative = _values(usable, readout, usable["Metadata_ControlType"] == "negative")
        for name, chosen in _positive_groups(usable):
            positive = _values(usable, readout, chosen)
            numbers, reason = _statistics(negative, positive, n_bootstrap, confidence, seed)
            row = {"readout": readout, "positive": name, "n_negative": negative.size, "n_positive": positive.size}
            rows.append({**row, **numbers, "cv_negative": _cv(negative), "reason": reason})
    return _table(rows).assign(Metadata_Plate=wells["Metadata_Plate"].iloc[0])


def _table(rows: list[dict]) -> pd.DataFrame:
    """The rows under all columns with their types, also when there are none."""
    text = {"Metadata_Plate", "readout", "positive", "reason"}
    table = pd.DataFrame(rows, columns=COLUMNS)
    types = {c: "object" if c in text else "int64" if c.startswith("n_") else "float64" for c in COLUMNS}
    return table.astype(types)


def _check(wells: pd.DataFrame, readouts: list[str]) -> None:
    """Refuse a table that is not one plate's or lacks a column."""
    missing = [c for c in [*NEEDED, *(READOUT + r for r in readouts)] if c not in wells]
    if missing:
        had = [c.removeprefix(READOUT) for c in wells if c.startswith(READOUT)]
        msg = f"plate statistics need the columns {missing}; the table has the readouts {had}; rerun rule profile_plate"
        raise PlatelineError(msg)
    plates = sorted(set(wells["Metadata_Plate"]))
    if len(plates) > 1:
        msg = f"plate statistics take one plate; got {len(plates)}: {plates[:5]}; split the table by Metadata_Plate"
        raise PlatelineError(msg)


def _positive_groups(wells: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    """Name and rows of each group of positive wells; one group without rows when the plate has none."""
    positive = wells["Metadata_ControlType"] == "positive"
    compound = wells["Metadata_Compound"].fillna("").astype(str)
    compounds = sorted(set(compound[positive]))
    groups = [(name, positive & (compound == name)) for name in compounds]
    return groups if len(groups) == 1 else [(ALL_POSITIVE, positive), *groups]


def _values(wells: pd.DataFrame, readout: str, chosen: pd.Series) -> Floats:
    """Finite values of the readout in the chosen wells."""
    values = wells.loc[chosen, READOUT + readout].to_numpy(np.float64)
    return values[np.isfinite(values)]


def _statistics(
    negative: Floats, positive: Floats, n_bootstrap: int, confidence: float, seed: int
) -> tuple[dict[str, float], str]:
    """Each statistic with its bounds, and why some of them are NaN."""
    numbers = {name + bound: np.nan for name in STATISTICS for bound in ("", "_low", "_high")}
    few = {"negative": negative.size, "positive": positive.size}
    short = [f"{n} {group} well{'s' * (n != 1)}" for group, n in few.items() if n < MIN_WELLS]
    if short:
        return numbers, f"not estimable: {' and '.join(short)}, at least {MIN_WELLS} needed"
    drawn_n, drawn_p = _resample(negative, positive, n_bootstrap, seed)
    undefined = []
    for name, statistic in STATISTICS.items():
        value = float(statistic(negative, positive))
        if np.isfinite(value):
            low, high = _interval(statistic(drawn_n, drawn_p), confidence)
            numbers |= {name: value, f"{name}_low": low, f"{name}_high": high}
        else:
            undefined.append(name)
    reason = f"not estimable: {', '.join(undefined)}: no difference or no spread between the control wells"
    return numbers, reason if undefined else ""


def _resample(negative: Floats, positive: Floats, n_bootstrap: int, seed: int) -> tuple[Floats, Floats]:
    """Wells drawn with replacement within each group, (B, N) and (B, P)."""
    rng = np.random.default_rng(seed)
    return rng.choice(negative, (n_bootstrap, negative.size)), rng.choice(positive, (n_bootstrap, positive.size))


def _interval(values: Floats, confidence: float) -> tuple[float, float]:
    """Percentile interval of the defined values; picks observed values, so that infinite ones do no harm."""
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _cv(values: Floats) -> float:
    """Coefficient of variation; NaN where a ratio to the mean has no meaning."""
    if values.size < MIN_WELLS or values.min() <= 0:
        return np.nan
    center, sd = _mean_sd(values, "negative")
    return float(sd / center)


def _mean_sd(values: npt.ArrayLike, group: str) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation over the last axis, exact for equal values."""
    wells = _wells(values, group)
    # Rounding gives the mean of equal values a last-digit error, which a ratio of spreads would blow up.
    equal = np.ptp(wells, axis=-1) == 0
    mean = np.where(equal, wells[..., 0], wells.mean(axis=-1))
    return mean, np.where(equal, 0.0, wells.std(axis=-1, ddof=1))


def _median_mad(values: npt.ArrayLike, group: str) -> tuple[Floats, Floats]:
    """Median and median absolute deviation over the last axis."""
    wells = _wells(values, group)
    median = np.median(wells, axis=-1)
    return median, np.median(np.abs(wells - median[..., None]), axis=-1)


def _wells(values: npt.ArrayLike, group: str) -> Floats:
    """The values as float64, refused below two wells."""
    wells = np.asarray(values, np.float64)
    if wells.ndim == 0 or wells.shape[-1] < MIN_WELLS:
        n = wells.shape[-1] if wells.ndim else 1
        msg = f"{n} {group} control well(s); expected at least {MIN_WELLS}; a spread needs two wells"
        raise PlatelineError(msg)
    return wells


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient that is infinite over zero and NaN for zero over zero, without warnings."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(numerator, denominator)
