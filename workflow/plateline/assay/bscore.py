"""B-scores: what a well reads beyond the row and the column it stands in, by Tukey's median polish.

Median polish supposes that most wells of every row and column do nothing. Where treatment is aligned with row or
column it takes the treatment for an artefact and removes it; there it is refused.
"""

import numpy as np
import pandas as pd

from plateline.assay.controls import MAD_TO_SD, Floats
from plateline.assay.layout import aligned_with, check_plate, one_treatment, places
from plateline.identity import READOUT

B_SCORES = ["Metadata_Plate", "Metadata_Well", "readout", "value", "b_score", "reason"]
MIN_LINE = 4
_ROUNDS = 20
_SETTLED = 1e-9


def median_polish(grid: Floats) -> tuple[float, Floats, Floats, Floats]:
    """Overall level, row effects, column effects and what is left of a plate.

    Parameters
    ----------
    grid : ndarray of float64, shape (R, C)
        NaN where there is no well; every row and column has a well.

    Returns
    -------
    overall : float
    rows : ndarray of float64, shape (R,)
        Median 0.
    columns : ndarray of float64, shape (C,)
        Median 0.
    residual : ndarray of float64, shape (R, C)
        ``grid - overall - rows - columns``, NaN where the grid is.

    Notes
    -----
    Rows first, then columns, until nothing moves by more than 1e-9 of the range or 20 rounds are done. A grid and its
    transpose may differ in the last steps, as is known of median polish.

    References
    ----------
    Tukey 1977, Exploratory Data Analysis.
    """
    residual = grid.copy()
    rows, columns, overall = np.zeros(grid.shape[0]), np.zeros(grid.shape[1]), 0.0
    settled = _SETTLED * (np.nanmax(grid) - np.nanmin(grid))
    for _ in range(_ROUNDS):
        of_row = np.nanmedian(residual, axis=1)
        residual, rows = residual - of_row[:, None], rows + of_row
        of_column = np.nanmedian(residual, axis=0)
        residual, columns = residual - of_column, columns + of_column
        if max(np.abs(of_row).max(), np.abs(of_column).max()) <= settled:
            break
    for effects in (rows, columns):
        middle = float(np.median(effects))
        effects -= middle
        overall += middle
    return overall, rows, columns, residual


def b_scores(wells: pd.DataFrame, readout: str) -> tuple[pd.Series, float, str]:
    """B-score of the sample wells of a plate.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table.
    readout : str
        Name without the prefix.

    Returns
    -------
    scores : Series of float64
        By well, in reading order: residual of the median polish in units of 1.4826 MAD of all residuals. Of the sample
        wells; of the wells of one treatment on a plate without samples. Empty where refused.
    removed : float
        Share of the variance of the readout that rows and columns took, 0 to 1; NaN where refused.
    reason : str
        Empty, or ``not estimable:`` and why.

    Raises
    ------
    PlatelineError
        If the table holds several plates or lacks a column.

    References
    ----------
    Brideau et al. 2003, https://doi.org/10.1177/1087057103258285
    """
    check_plate(wells, [readout])
    table = places(wells)
    column = READOUT + readout
    table = table[np.isfinite(table[column])]
    chosen = table[table["kind"] == "sample"]
    if chosen.empty:
        chosen, reason = one_treatment(table)
    else:
        reason = _refusal(chosen, table)
    reason = reason or _thin(chosen)
    if reason:
        return pd.Series(dtype=np.float64), np.nan, reason
    grid = chosen.pivot_table(index="row", columns="column", values=column).to_numpy()
    residual = median_polish(grid)[3]
    # Both in reading order.
    left = pd.Series(residual[np.isfinite(residual)], chosen.index)
    mad = MAD_TO_SD * np.median(np.abs(left - np.median(left)))
    if mad <= _SETTLED * np.ptp(chosen[column]):
        return left.iloc[:0], np.nan, "not estimable: rows and columns leave no spread"
    return left / mad, float(max(0.0, 1 - left.var() / chosen[column].var())), ""


def well_scores(wells: pd.DataFrame, readouts: list[str]) -> pd.DataFrame:
    """B-scores of all wells of a plate and several readouts.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table.
    readouts : list of str
        Names without the prefix.

    Returns
    -------
    DataFrame
        One row per well and readout, columns `B_SCORES`: the `value` of the readout, its `b_score`, and the `reason`
        where the plate was refused or the well does not enter (`b_score` NaN).
    """
    tables = [_scores_of(wells, readout) for readout in readouts]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=B_SCORES)


def _scores_of(wells: pd.DataFrame, readout: str) -> pd.DataFrame:
    """B-scores of all wells and one readout."""
    scores, _, reason = b_scores(wells, readout)
    table = wells[["Metadata_Plate", "Metadata_Well"]].assign(readout=readout, value=wells[READOUT + readout])
    table["b_score"] = table["Metadata_Well"].map(scores).astype(np.float64)
    left_out = "no sample well with a value" if scores.size else ""
    table["reason"] = np.where(table["b_score"].isna(), reason or left_out, "")
    return table.astype({"reason": object})[B_SCORES]


def _refusal(chosen: pd.DataFrame, table: pd.DataFrame) -> str:
    """Why rows and columns cannot be told from what the sample wells hold."""
    if (chosen["treatment"] == "").any():
        return "not estimable: the plate map does not name what is in every sample well"
    for what, by in (("treatment", "treatment"), ("compound", "compound"), ("dose", "dose")):
        known = chosen[chosen[by].notna()]
        if line := aligned_with(known, table, by):
            n_levels, n_lines = known[by].nunique(), known[line].nunique()
            return f"not estimable: {what} is aligned with {line} ({n_levels} of them in {n_lines} {line}s)"
    return ""


def _thin(chosen: pd.DataFrame) -> str:
    """Why there are too few wells for a median per row and column."""
    for line in ("row", "column"):
        n = chosen[line].value_counts()
        if len(n) < MIN_LINE or n.min() < MIN_LINE:
            fewest = f"{len(n)} {line}s, the smallest with {n.min() if len(n) else 0} wells"
            return f"not estimable: {fewest}; at least {MIN_LINE} of {MIN_LINE} needed"
    return ""
