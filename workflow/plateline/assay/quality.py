"""How well a plate separates its positive from its negative controls, for the declared readouts.

Owns the table of plate statistics, their intervals, and the answer `not estimable` with its reason. The well is the
observation and the plate the block: cells and fields never count as n. A positive control is compared with the negative
controls of its own plate only; `reference`, `untreated` and sample wells take no part.
"""

import numpy as np
import pandas as pd

from plateline.assay.controls import MIN_WELLS, STATISTICS, Floats, percentiles, variation
from plateline.assay.layout import check_plate
from plateline.identity import READOUT

ALL_POSITIVE = "all positive"
COLUMNS = [
    "Metadata_Plate",
    "readout",
    "positive",
    "n_negative",
    "n_positive",
    *(name + bound for name in STATISTICS for bound in ("", "_low", "_high")),
    *(f"cv_{group}{bound}" for group in ("negative", "positive") for bound in ("", "_low", "_high")),
    "reason",
]


def plate_statistics(
    wells: pd.DataFrame, readouts: list[str], *, n_bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Z', robust Z', SSMD, signal window and CV of one plate, for every readout and positive control.

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
        Each statistic has its interval, `_low` to `_high`. `cv_negative`, `cv_positive` (sd / mean, fractions) are NaN
        for fewer than two wells or values at or below zero, where they have no meaning. `reason` is empty, or starts
        with ``not estimable:``; the numbers it speaks of are NaN. A bound may be infinite where resamples have no
        difference, or no spread.

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
    check_plate(wells, readouts)
    if wells.empty:
        return _table([])
    # Sorted, so that the seeded resamples do not depend on the order of the rows.
    usable = wells[wells["Metadata_Status"] == "ok"].sort_values("Metadata_Well", kind="stable")
    rows = []
    for readout in readouts:
        negative = _values(usable, readout, usable["Metadata_ControlType"] == "negative")
        for name, chosen in _positive_groups(usable):
            positive = _values(usable, readout, chosen)
            drawn = _resample(negative, positive, n_bootstrap, seed)
            numbers, reason = _statistics(negative, positive, drawn, confidence)
            numbers |= _variations({"negative": negative, "positive": positive}, drawn, confidence)
            row = {"readout": readout, "positive": name, "n_negative": negative.size, "n_positive": positive.size}
            rows.append({**row, **numbers, "reason": reason})
    return _table(rows).assign(Metadata_Plate=wells["Metadata_Plate"].iloc[0])


def _table(rows: list[dict]) -> pd.DataFrame:
    """The rows under all columns with their types, also when there are none."""
    text = {"Metadata_Plate", "readout", "positive", "reason"}
    table = pd.DataFrame(rows, columns=COLUMNS)
    types = {c: "object" if c in text else "int64" if c.startswith("n_") else "float64" for c in COLUMNS}
    return table.astype(types)


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
    negative: Floats, positive: Floats, drawn: tuple[Floats, Floats], confidence: float
) -> tuple[dict[str, float], str]:
    """Each statistic with its bounds, and why some of them are NaN."""
    numbers = {name + bound: np.nan for name in STATISTICS for bound in ("", "_low", "_high")}
    few = {"negative": negative.size, "positive": positive.size}
    short = [f"{n} {group} well{'s' * (n != 1)}" for group, n in few.items() if n < MIN_WELLS]
    if short:
        return numbers, f"not estimable: {' and '.join(short)}, at least {MIN_WELLS} needed"
    undefined = []
    for name, statistic in STATISTICS.items():
        value = float(statistic(negative, positive))
        if np.isfinite(value):
            low, high = percentiles(statistic(*drawn), confidence)
            numbers |= {name: value, f"{name}_low": low, f"{name}_high": high}
        else:
            undefined.append(name)
    reason = f"not estimable: {', '.join(undefined)}: no difference or no spread between the control wells"
    return numbers, reason if undefined else ""


def _resample(negative: Floats, positive: Floats, n_bootstrap: int, seed: int) -> tuple[Floats, Floats]:
    """Wells drawn with replacement within each group, (B, N) and (B, P)."""
    rng = np.random.default_rng(seed)
    # A group without wells has nothing to draw from.
    drawn = [rng.choice(group, (n_bootstrap, group.size)) if group.size else group for group in (negative, positive)]
    return drawn[0], drawn[1]


def _variations(groups: dict[str, Floats], drawn: tuple[Floats, Floats], confidence: float) -> dict[str, float]:
    """CV of each group with its bounds; NaN where a ratio to the mean has no meaning."""
    numbers: dict[str, float] = {}
    for (group, values), resamples in zip(groups.items(), drawn, strict=True):
        value = float(variation(values))
        low, high = percentiles(variation(resamples), confidence) if np.isfinite(value) else (np.nan, np.nan)
        numbers |= {f"cv_{group}": value, f"cv_{group}_low": low, f"cv_{group}_high": high}
    return numbers
