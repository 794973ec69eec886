"""The table of position effects of a plate: every readout, every pattern, with the corrected p and the reasons."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from plateline.assay.bscore import b_scores
from plateline.assay.layout import check_plate, name_of, one_treatment, places
from plateline.assay.positions import NOTHING, PATTERNS, edge_effect, outliers, pattern_effect, single_samples
from plateline.assay.swap import GAIN, orientation
from plateline.identity import READOUT

# Patterns of dispensers that a plate of 96 wells or fewer cannot tell from its rows and columns.
_FROM_384 = {"quadrants", "eight tips"}
# Effect -> the family its p is corrected in; the others have no p.
FAMILIES = {
    "edge": "positions",
    **dict.fromkeys(PATTERNS, "positions"),
    "edge of the samples": "samples",
    "orientation": "orientation",
}
POSITION_COLUMNS = {
    "Metadata_Plate": "object",
    "readout": "object",
    "effect": "object",
    "treatment": "object",
    "n_wells": "int64",
    "effect_size": "float64",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "relative": "float64",
    "p": "float64",
    "p_floor": "float64",
    "q": "float64",
    "family": "object",
    "detail": "object",
    "reason": "object",
}


def position_effects(
    wells: pd.DataFrame, readouts: list[str], *, shape: int, n_bootstrap: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Edge, row, column and dispense effects, outliers, B-score and orientation of one plate, per readout.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table, as for `plate_statistics`; `Metadata_Treatment`, `Metadata_Concentration`,
        `Metadata_CellLine`, `Metadata_Donor` and `Metadata_TimePoint_h` are read where there are any.
    readouts : list of str
        Names without the prefix; any unit.
    shape : int
        Wells of the plate, a key of `identity.SHAPES`: tells where the edge is, whichever wells were imaged.
    n_bootstrap : int
        Resamples of the wells and permutations of the positions, at least 1.
    confidence : float
        Of the intervals, between 0 and 1.
    seed : int
        Every row starts from it anew.

    Returns
    -------
    DataFrame
        Columns `POSITION_COLUMNS`; one row per readout and effect: ``edge``, the names of `positions.PATTERNS`
        (``quadrants`` and ``eight tips`` from 384 wells on), ``position outliers``, ``edge of the samples``,
        ``B-score`` (`effect_size` is the share of variance it removes) and ``orientation``. `treatment` names what the
        wells hold. `q` is Benjamini-Hochberg over all tests of the plate in one `family`: ``positions`` (wells of one
        treatment), ``samples``, ``orientation``. `reason` is empty or ``not estimable: ...``; the numbers are NaN.

    Raises
    ------
    PlatelineError
        If the table holds several plates or lacks a column.
    """
    check_plate(wells, readouts)
    if wells.empty:
        return _table([])
    options = {"shape": shape, "n_permutations": n_bootstrap, "confidence": confidence, "seed": seed}
    rows = [row for readout in readouts for row in _of_readout(wells, readout, options)]
    return _table(rows).assign(Metadata_Plate=wells["Metadata_Plate"].iloc[0])


def findings(positions: pd.DataFrame, *, max_fdr: float = 0.05) -> pd.DataFrame:
    """The effects worth a warning: q at most `max_fdr`, an orientation also gains by 0.2; `reason` says so."""
    strong = (positions["effect"] != "orientation") | (positions["effect_size"] >= GAIN)
    found = positions[(positions["q"] <= max_fdr) & strong].copy()
    size = found["effect_size"].map("{:.2g}".format)
    what = np.where(found["effect"] == "orientation", "the controls fit better " + found["detail"], found["effect"])
    found["reason"] = (
        found["readout"] + ": " + what + ", effect size " + size + ", q " + found["q"].map("{:.2g}".format)
    )
    return found


def _of_readout(wells: pd.DataFrame, readout: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of one readout."""
    column = READOUT + readout
    table = places(wells)
    table = table[np.isfinite(table[column])]
    chosen, reason = one_treatment(table)
    own = {"treatment": name_of(chosen)}
    shapeless = {name: value for name, value in options.items() if name != "shape"}
    values, names = chosen[column], list(chosen.index)
    patterns = [name for name in PATTERNS if options["shape"] >= 384 or name not in _FROM_384]
    if reason:
        refused = NOTHING | own | {"n_wells": len(chosen), "reason": reason}
        rows = {name: refused for name in ("edge", *patterns)}
    else:
        rows = {"edge": own | edge_effect(values, names, **options)}
        rows |= {name: own | pattern_effect(values, names, name, **shapeless) for name in patterns}
    rows["position outliers"] = own | outliers(values, names)
    rows["edge of the samples"] = _edge_of_samples(table, column, options)
    scores, removed, why = b_scores(wells, readout)
    rows["B-score"] = NOTHING | {"n_wells": len(scores), "effect_size": removed, "reason": why}
    rows["orientation"] = orientation(
        wells, readout, shape=options["shape"], n_permutations=options["n_permutations"], seed=options["seed"]
    )
    return [{"readout": readout, "effect": effect, **row} for effect, row in rows.items()]


def _edge_of_samples(table: pd.DataFrame, column: str, options: dict[str, Any]) -> dict[str, Any]:
    """The edge test on samples of one well each, named as such."""
    samples, reason = single_samples(table, options["shape"])
    own = {"treatment": "samples of one well each"}
    if reason:
        return NOTHING | own | {"n_wells": len(samples), "reason": reason}
    return own | edge_effect(samples[column], list(samples.index), **options)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows under all columns with their types, q filled in family by family."""
    table = pd.DataFrame(rows, columns=list(POSITION_COLUMNS)).astype({"q": "float64"})
    table["family"] = table["effect"].map(FAMILIES).fillna("")
    for family in set(FAMILIES.values()):
        tested = (table["family"] == family) & table["p"].notna()
        if tested.any():
            table.loc[tested, "q"] = false_discovery_control(table.loc[tested, "p"].astype(float), method="bh")
    return table.fillna({name: "" for name, kind in POSITION_COLUMNS.items() if kind == "object"}).astype(
        POSITION_COLUMNS
    )
