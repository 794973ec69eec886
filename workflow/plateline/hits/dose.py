"""Dose response: four-parameter logistic curves on wells, and what may honestly be said of their EC50.

Owns the curve, its fit and its interval. Only sample wells enter, never controls. A curve that the doses do not bracket
answers with a bound and a qualifier, not with an extrapolated number.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from plateline.errors import PlatelineError
from plateline.hits.distance import check_wells
from plateline.hits.permute import ROUNDING, FloatArray
from plateline.identity import READOUT, WELL

NEEDED = [*WELL, "Metadata_ControlType", "Metadata_Compound", "Metadata_Concentration", "Metadata_ConcentrationUnit"]
LN10 = np.log(10)
# Below these a curve of four parameters is a drawing, not an estimate.
MIN_DOSES, MIN_WELLS = 4, 6
# Two wells more than parameters: with one the interval is as wide as any search.
MIN_DEGREES = 2
# Flatter than 0.5 needs four decades of doses to show both plateaus, and left free it opens the interval of most curves
# of 27 wells (simulated: 36 % at 0.3, 1 % at 0.5, noise a tenth of the span); steeper than 5 is a step between doses.
HILLS = np.geomspace(0.5, 5, 9)
# How far beyond the tested doses, in decades, an EC50 is looked for; an interval that gets there is open.
MARGIN = 2.0
STEP = 0.1
# A plateau counts as seen when the curve has come this near to it at the outermost dose (Inglese et al. 2006).
PLATEAU = 0.8
FLAT_P = 0.05

COLUMNS = {
    "Metadata_Compound": object,
    "readout": object,
    "pEC50": float,
    "EC50": float,
    "unit": object,
    "qualifier": object,
    "low": float,
    "high": float,
    "bottom": float,
    "top": float,
    "hill": float,
    "fitted_pEC50": float,
    "curve_class": object,
    "n_wells": int,
    "n_doses": int,
    "n_plates": int,
    "spearman": float,
    "r2": float,
    "p_flat": float,
    "lowest_dose": float,
    "highest_dose": float,
    "reason": object,
}


def four_parameter(
    log10_dose: npt.ArrayLike, bottom: float, top: float, pEC50: float, hill: float
) -> npt.NDArray[np.float64]:
    """Response of the four-parameter logistic curve.

    Parameters
    ----------
    log10_dose : array_like of float
        log10 of the dose, on the axis of `pEC50` (log10 molar, or log10 of the concentration when it is not molar).
    bottom, top : float
        Lower and upper asymptote, in units of the readout.
    pEC50 : float
        -log10 of the dose half way between them.
    hill : float
        Slope per decade; below 0 the curve descends with the dose.

    Returns
    -------
    numpy.ndarray of float64
        Shape of `log10_dose`; NaN where the dose is.

    Examples
    --------
    >>> four_parameter([-9.0, -8.0], bottom=1, top=3, pEC50=8, hill=1).round(3).tolist()
    [1.182, 2.0]
    """
    log10_dose = np.asarray(log10_dose, dtype=np.float64)
    # expit does not overflow far from the EC50, a power would.
    return bottom + (top - bottom) * expit(LN10 * hill * (log10_dose + pEC50))


def dose_response(wells: pd.DataFrame, readouts: list[str], *, confidence: float) -> pd.DataFrame:
    """One row per compound and readout: the fitted curve and its EC50 with interval and qualifier.

    Parameters
    ----------
    wells : pandas.DataFrame
        One row per well of all plates: `NEEDED`, ``Metadata_log10_molar``, ``Metadata_Status`` (absent: all ``ok``)
        and ``Metadata_Readout_{name}`` (float).
    readouts : list of str
        Names without the prefix.
    confidence : float
        Of the interval, above 0 and below 1.

    Returns
    -------
    pandas.DataFrame
        The columns `COLUMNS`, sorted by compound, then in the order of `readouts`. ``EC50``, ``low``, ``high``,
        ``lowest_dose`` and ``highest_dose`` in ``unit``; ``low`` is 0 and ``high`` inf where the interval is open.
        ``pEC50`` is -log10 of the EC50 in molar, NaN for units that are not molar. ``bottom`` < ``top`` in units of
        the readout, ``hill`` below 0 for a descending curve. `four_parameter` of ``bottom, top, fitted_pEC50, hill``
        draws the curve: ``fitted_pEC50`` is on the axis of the fit and differs from ``pEC50`` where the qualifier is
        not ``=``. ``r2`` is that curve's, ``p_flat`` the F test's, ``spearman`` the rank correlation over wells.

        ========== =================================================================================================
        qualifier  ``=`` the doses bracket the EC50 and its interval has an end on both sides;
                   ``>`` the EC50 is beyond the top dose, the interval is open upward, or the curve is flat: EC50 is
                   the top dose; ``<`` the same downward with the lowest dose; empty: open on both sides, EC50 NaN
        curve_class ``complete`` qualifier ``=`` and both plateaus come within 20 %; ``partial`` any other curve;
                   ``inactive`` not better than a constant (p_flat > 0.05; bottom = top = mean, hill NaN);
                   ``not estimable`` all estimates NaN, see ``reason``
        ========== =================================================================================================

    Raises
    ------
    PlatelineError
        If a column is missing, a well stands twice, or `confidence` is not between 0 and 1.

    Notes
    -----
    Wells of ControlType ``sample`` and status ``ok`` with a finite readout and a dose above 0 count; all others do
    not. Bottom and top are linear for a given EC50 and hill and are solved, not searched (variable projection); EC50
    and hill are searched globally on a grid, then refined. The interval is that of the profile likelihood: all EC50
    whose best curve has RSS <= RSS_min * (1 + F(1, df) / df); a set in pieces gives its hull.

    Plates are blocks: each has its own offset, and df counts it. Where doses and plates are aligned, so that an
    offset cannot be told from a dose, plates are pooled and `reason` says so. No wells give an empty table with all
    columns.

    References
    ----------
    Golub and Pereyra 1973, doi:10.1137/0710036 (variable projection). Bates and Watts 1988,
    doi:10.1002/9780470316757 (profile likelihood). Inglese et al. 2006, doi:10.1073/pnas.0604348103 (curve classes).
    """
    check_wells(wells, [*NEEDED, "Metadata_log10_molar", *(READOUT + name for name in readouts)])
    if not 0 < confidence < 1:
        msg = f"hits: confidence is {confidence!r}; expected a share above 0 and below 1; change hits.confidence"
        raise PlatelineError(msg)
    samples = wells[(wells["Metadata_ControlType"] == "sample") & (wells["Metadata_Compound"].fillna("") != "")]
    rows = [
        {"Metadata_Compound": compound, "readout": name} | _curve(of_compound, READOUT + name, confidence)
        for compound, of_compound in samples.groupby("Metadata_Compound", sort=True)
        for name in readouts
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _curve(wells: pd.DataFrame, column: str, confidence: float) -> dict[str, object]:
    """Row of one compound and readout."""
    response = wells[column].to_numpy(dtype=np.float64, na_value=np.nan)
    counts = np.isfinite(response) & (wells["Metadata_Concentration"] > 0).to_numpy()
    if "Metadata_Status" in wells.columns:
        counts &= (wells["Metadata_Status"] == "ok").to_numpy()
    wells, y = wells[counts], response[counts]
    x, unit, shift, reason = _axis(wells)
    plates = wells["Metadata_Plate"].to_numpy()
    n_doses, n_plates = len(np.unique(x.round(6))), len(set(plates))
    row: dict[str, object] = {"unit": unit, "n_wells": len(x), "n_doses": n_doses, "n_plates": n_plates}
    row |= {"qualifier": "", "curve_class": "not estimable", "reason": reason}
    if reason:
        return row
    row |= {"lowest_dose": 10 ** (x.min() + shift), "highest_dose": 10 ** (x.max() + shift)}
    row["spearman"] = _spearman(x, y)
    if n_doses < MIN_DOSES or len(x) < MIN_WELLS:
        row["reason"] = f"{n_doses} doses, {len(x)} wells; expected {MIN_DOSES} doses, {MIN_WELLS} wells"
        return row
    row |= _estimate(x, y, plates, confidence)
    molar = wells["Metadata_log10_molar"].notna().all()
    return _in_unit(row, shift, molar=bool(molar))


def _axis(wells: pd.DataFrame) -> tuple[FloatArray, str, float, str]:
    """log10 dose of each well, the unit, what turns log10 dose into log10 of that unit, and why there is no axis."""
    molar = wells["Metadata_log10_molar"].to_numpy(dtype=np.float64, na_value=np.nan)
    dose = np.log10(wells["Metadata_Concentration"].to_numpy(dtype=np.float64))
    units = wells["Metadata_ConcentrationUnit"].fillna("").astype(str).to_numpy()
    if not len(wells):
        return dose, "", np.nan, "no usable well: none has status ok, a finite readout and a dose above 0"
    highest = int(np.nanargmax(molar)) if np.isfinite(molar).any() else 0
    if np.isfinite(molar).all():
        return molar, units[highest], dose[highest] - molar[highest], ""
    if np.isfinite(molar).any() or len(set(units)) > 1:
        return dose, "", np.nan, f"units that cannot be compared: {', '.join(sorted(set(units)))}"
    return dose, units[0], 0.0, ""


def _estimate(x: FloatArray, y: FloatArray, plates: npt.NDArray, confidence: float) -> dict[str, object]:
    """Estimates of one curve on the axis of the fit: EC50, low and high as log10, open ends as -inf and inf."""
    blocks, reason = _blocks(x, plates)
    average = blocks @ np.linalg.pinv(blocks)  # (N, N) replaces each well by the mean of its plate
    degrees = len(x) - blocks.shape[1] - 3
    if degrees < MIN_DEGREES:
        return {"reason": f"{len(x)} wells on {len(set(plates))} plates are too few for a curve with plate offsets"}
    low, high, centred = x.min(), x.max(), y - average @ y
    total = float(centred @ centred)
    flat: dict[str, object] = {
        "bottom": y.mean(),
        "top": y.mean(),
        "EC50": high,
        "low": -np.inf,
        "high": np.inf,
        "qualifier": ">",
    }
    flat |= {"curve_class": "inactive", "reason": reason}
    if total <= len(y) * (ROUNDING * np.abs(y).max()) ** 2:
        return flat | {"p_flat": 1.0}
    curve = (x, centred, average)
    widest, least_rss = _search(curve, low - MARGIN, high + MARGIN)
    # What is drawn and tested keeps its EC50 within the doses: beyond them its asymptote has no end.
    inside, inside_rss = (widest, least_rss) if low <= widest <= high else _search(curve, low, high)
    p_flat = _p_flat(total, inside_rss, degrees)
    if p_flat > FLAT_P:
        return flat | {"r2": 0.0, "p_flat": p_flat}
    row = _asymptotes(curve, y, inside) | {"r2": 1 - inside_rss / total, "p_flat": p_flat}
    # Rounding keeps the curve of noise-free wells from having no neighbour within its own limit.
    limit = max(least_rss, ROUNDING * total) * (1 + f_distribution.ppf(confidence, 1, degrees) / degrees)
    ends = _interval(curve, widest, limit)
    return row | _bound(widest, ends, low, high, row) | {"reason": reason}


def _blocks(x: FloatArray, plates: npt.NDArray) -> tuple[FloatArray, str]:
    """One column of ones per plate (N, B), or a single column where plates and doses are aligned, and that said."""
    of_plate = np.unique(plates, return_inverse=True)[1][:, None] == np.arange(len(set(plates)))
    doses, of_dose = np.unique(x.round(6), return_inverse=True)
    both = np.hstack([of_plate, of_dose[:, None] == np.arange(len(doses))]).astype(np.float64)
    # Connected: doses can be compared within plates, through a chain of plates if need be.
    if np.linalg.matrix_rank(both) == both.shape[1] - 1:
        return of_plate.astype(np.float64), ""
    return np.ones((len(x), 1)), "doses and plates are aligned: differences between plates are in the curve"


def _sigmoids(curve: tuple[FloatArray, ...], ec50: FloatArray, hill: FloatArray) -> FloatArray:
    """Sigmoids of unit height (..., N), freed of the plates' means; for low EC50 turned over, which keeps digits."""
    x, _, average = curve
    turn = np.where(ec50 > x.mean(), 1.0, -1.0)
    s = expit((LN10 * turn * hill)[..., None] * (x - ec50[..., None]))
    return s - s @ average


def _rss(curve: tuple[FloatArray, ...], ec50: FloatArray, hill: FloatArray) -> FloatArray:
    """Residual sum of squares with the best bottom and top for each EC50 (log10) and hill."""
    s = _sigmoids(curve, ec50, hill)
    along, own = s @ curve[1], (s**2).sum(axis=-1)
    explained = np.divide(along**2, own, out=np.zeros_like(own), where=own > 0)
    return np.maximum(curve[1] @ curve[1] - explained, 0.0)


def _profile(curve: tuple[FloatArray, ...], ec50: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least RSS over hill for each EC50 (M,), and that hill: a grid, then grids between the best point's neighbours."""
    hill, rows = np.tile(HILLS, (len(ec50), 1)), np.arange(len(ec50))
    for _ in range(6):
        rss = _rss(curve, ec50[:, None], hill)
        best = rss.argmin(axis=1)
        least, at = rss[rows, best], hill[rows, best]
        low, high = hill[rows, np.maximum(best - 1, 0)], hill[rows, np.minimum(best + 1, len(HILLS) - 1)]
        hill = np.linspace(low, high, len(HILLS), axis=1)
    return least, at


def _search(curve: tuple[FloatArray, ...], low: float, high: float) -> tuple[float, float]:
    """EC50 (log10) of least RSS from low to high, and that RSS; of ties the lower EC50."""
    grid = np.linspace(low, high, int(np.ceil((high - low) / STEP)) + 1)
    for _ in range(8):
        rss, _hill = _profile(curve, grid)
        best = int(rss.argmin())
        at, least = grid[best], rss[best]
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 9)
    return float(at), float(least)


def _interval(curve: tuple[FloatArray, ...], estimate: float, limit: float) -> tuple[float, float]:
    """Ends (log10) of the EC50 whose profile is within the limit; infinite where it is so as far as was looked."""
    x = curve[0]
    grid = np.union1d(np.arange(x.min() - MARGIN, x.max() + MARGIN + STEP / 2, STEP), estimate)
    within = (_profile(curve, grid)[0] <= limit) | (grid == estimate)
    first, last = np.flatnonzero(within)[[0, -1]]
    inner = grid[[first, last]]
    outer = grid[[max(first - 1, 0), min(last + 1, len(grid) - 1)]]
    for _ in range(12):
        middle = (inner + outer) / 2
        keep = _profile(curve, middle)[0] <= limit
        inner, outer = np.where(keep, middle, inner), np.where(keep, outer, middle)
    return (-np.inf if first == 0 else inner[0], np.inf if last == len(grid) - 1 else inner[1])


def _asymptotes(curve: tuple[FloatArray, ...], y: FloatArray, ec50: float) -> dict[str, float]:
    """Bottom, top, hill of the best curve with this EC50, bottom below top and the sign of hill its direction."""
    hill = _profile(curve, np.array([ec50]))[1][0]
    s = expit(LN10 * hill * (curve[0] - ec50))
    centred = s - curve[2] @ s
    height = (centred @ curve[1]) / (centred @ centred)
    left = y.mean() - height * s.mean()
    ends = sorted([left, left + height])
    return {"bottom": ends[0], "top": ends[1], "hill": hill if height >= 0 else -hill, "fitted_pEC50": -ec50}


def _p_flat(total: float, rss: float, degrees: int) -> float:
    """Tail of F(3, df): the curve's three parameters beyond a constant per plate."""
    if rss <= ROUNDING * total:
        return 0.0
    return float(f_distribution.sf((total - rss) / 3 / (rss / degrees), 3, degrees))


def _bound(
    estimate: float, ends: tuple[float, float], low: float, high: float, row: dict[str, float]
) -> dict[str, object]:
    """What may be said of the EC50: its value, or the outermost dose with a qualifier."""
    beyond_top, beneath = estimate > high or np.isinf(ends[1]), estimate < low or np.isinf(ends[0])
    answer: dict[str, object] = {"low": ends[0], "high": ends[1], "curve_class": "partial"}
    if beyond_top and beneath:
        return answer | {"EC50": np.nan, "qualifier": ""}
    if beyond_top or beneath:
        return answer | ({"EC50": high, "qualifier": ">"} if beyond_top else {"EC50": low, "qualifier": "<"})
    at = np.sort(four_parameter([low, high], 0, 1, row["fitted_pEC50"], row["hill"]))
    seen = at[0] <= 1 - PLATEAU and at[1] >= PLATEAU
    return answer | {"EC50": -row["fitted_pEC50"], "qualifier": "=", "curve_class": "complete" if seen else "partial"}


def _in_unit(row: dict, shift: float, *, molar: bool) -> dict[str, object]:
    """Row with EC50 and its ends in the unit of the doses, and pEC50 where that is molar."""
    if "EC50" not in row:
        return row
    if molar:
        row["pEC50"] = -row["EC50"]
    if row["qualifier"] == "":
        row["reason"] = "; ".join(filter(None, [row["reason"], "the EC50 has no bound on either side"]))
    return row | {column: 10 ** (row[column] + shift) for column in ("EC50", "low", "high")}


def _spearman(x: FloatArray, y: FloatArray) -> float:
    """Rank correlation, ties sharing their mean rank; NaN when either does not vary."""
    one, other = (ranks - ranks.mean() for ranks in (rankdata(x.round(6)), rankdata(y)))
    length = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / length) if length > 0 else np.nan
