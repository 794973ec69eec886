"""Statistics of negative against positive control wells: Z', robust Z', SSMD, signal window; and the CV of a group.

Each takes plain arrays whose last axis are wells, and refuses a group that has no spread to speak of.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from plateline.errors import PlatelineError

# MAD times this is the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826
MIN_WELLS = 2

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


def signal_window(negative: npt.ArrayLike, positive: npt.ArrayLike) -> Floats:
    """Signal window, (abs(mean_positive - mean_negative) - 3 (sd_negative + sd_positive)) / sd of the higher group.

    Parameters
    ----------
    negative, positive : array_like of float64, shape (..., N) and (..., P)
        As in `zprime`.

    Returns
    -------
    ndarray of float64, shape (...)
        How many of its standard deviations fit between the bands of the controls; 2 and above is taken as fit for
        screening. Infinite where the group with the higher mean has no spread, NaN where nothing differs or spreads.
        For equal means the group with the larger spread counts as the higher one.

    Raises
    ------
    PlatelineError
        If a group has fewer than two wells.

    Notes
    -----
    The original divides by the standard deviation of the signal at its maximum, whichever control that is: so an
    inhibition assay is judged by its negative controls. It is asymmetric on purpose.

    References
    ----------
    Sittampalam et al. 1997, https://doi.org/10.1177/108705719700200306

    Examples
    --------
    >>> float(signal_window([-1, 0, 1], [18, 20, 22]))
    5.5
    """
    (center_n, sd_n), (center_p, sd_p) = _mean_sd(negative, "negative"), _mean_sd(positive, "positive")
    higher = np.where(center_p == center_n, np.maximum(sd_n, sd_p), np.where(center_p > center_n, sd_p, sd_n))
    return _divide(np.abs(center_p - center_n) - 3 * (sd_n + sd_p), higher)


def variation(values: npt.ArrayLike) -> Floats:
    """Coefficient of variation of a group of wells, sd / mean, a fraction.

    Parameters
    ----------
    values : array_like of float64, shape (..., N)
        Readout of the wells, without NaN.

    Returns
    -------
    ndarray of float64, shape (...)
        NaN for fewer than two wells, or where a value is zero or below: a ratio to the mean has no meaning for a
        quantity that may be negative, as a log ratio or a z.

    Examples
    --------
    >>> float(variation([8, 10, 12])), float(variation([-1, 0, 4]))
    (0.2, nan)
    """
    wells = np.asarray(values, np.float64)
    if wells.ndim == 0 or wells.shape[-1] < MIN_WELLS:
        return np.full(wells.shape[:-1], np.nan)
    center, sd = _mean_sd(wells, "any")
    return np.where((wells > 0).all(axis=-1), _divide(sd, center), np.nan)


STATISTICS: dict[str, Statistic] = {
    "zprime": zprime,
    "robust_zprime": robust_zprime,
    "ssmd": ssmd,
    "signal_window": signal_window,
}


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


def percentiles(values: Floats, confidence: float) -> tuple[float, float]:
    """Percentile interval of the defined values; picks observed values, so that infinite ones do no harm."""
    values = values[~np.isnan(values)]
    if values.size == 0:
        return np.nan, np.nan
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
