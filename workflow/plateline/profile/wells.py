"""Cells that count become one row per well: counts, readouts, aggregated features."""

from difflib import get_close_matches

import numpy as np
import pandas as pd

from plateline import readouts
from plateline.errors import ConfigError
from plateline.identity import READOUT, features_of
from plateline.profile.aggregate import MAD_SCALE
from plateline.profile.counts import judge_wells
from plateline.profile.imported import blank_readouts

OPERATORS = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
FUNCTIONS = {"log2": np.log2, "log10": np.log10, "sqrt": np.sqrt, "abs": np.abs}
COMPARISONS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def build_profile(
    cells: pd.DataFrame,
    counts: pd.DataFrame,
    features: pd.DataFrame,
    *,
    declared: dict,
    kind: str = "cells",
    failure: str = "",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per well of the plate map: identity, counts, readouts, features.

    Parameters
    ----------
    cells : DataFrame
        Cells that count: identity, and the features that the readouts name.
    counts : DataFrame
        The plate map with the counts of each well, from `count_wells`.
    features : DataFrame
        Aggregated features, index well, from `aggregate_cells`.
    declared : dict
        The section: `quantities`, `gates` and `readouts`; `min_cells` and `min_fields`, of which a well with fewer
        keeps its row with status `few cells` or `few fields`.
    kind : {'cells', 'fields', 'wells'}
        What a row of `cells` is; readouts that need cells one by one are not estimable from others.
    failure : str
        Why the plate is given up; all its wells get status `failed`.

    Returns
    -------
    profile : DataFrame
        Readouts in columns `Metadata_Readout_{name}`, NaN where not estimable; features without prefix.
    warnings : DataFrame
        `reason` per thing that could not be computed.
    """
    wells = counts.copy()
    wells["Metadata_Status"], wells["Metadata_Reason"] = judge_wells(wells, declared, failure)
    quantities, gates, called = (declared[name] for name in ("quantities", "gates", "readouts"))
    quantities, gates, called = readouts.parse(quantities, gates, called)
    columns, warnings = _readouts(cells, wells, quantities, gates, called)
    features = features.reindex(wells["Metadata_Well"]).reset_index(drop=True)
    profile = pd.concat([wells.reset_index(drop=True), columns.reset_index(drop=True), features], axis=1)
    return blank_readouts(profile, pd.DataFrame({"reason": warnings}, dtype=object), called, kind=kind)


def _readouts(
    cells: pd.DataFrame, wells: pd.DataFrame, quantities: dict, gates: dict, declared: dict
) -> tuple[pd.DataFrame, list[str]]:
    """A column per declared readout, and what could not be computed."""
    control = cells["Metadata_Well"].map(wells.set_index("Metadata_Well")["Metadata_ControlType"])
    values = pd.DataFrame({name: compute_quantity(tree, cells) for name, tree in quantities.items()}, index=cells.index)
    values = pd.concat([values, cells[features_of(list(cells.columns))]], axis=1)
    passed, warnings = {}, []
    for name, comparisons in gates.items():
        passed[name], kinds = apply_gate(comparisons, values, control)
        warnings += [f"gate {name} is not estimable: no cells in {kind} wells" for kind in kinds]
    columns = pd.DataFrame(index=wells.index)
    for name, (calls, unit) in declared.items():
        raw = _ratio([_call(call, values, passed, cells["Metadata_Well"], wells) for call in calls])
        columns[READOUT + name], missing = in_unit(raw, unit, wells)
        warnings += [f"readout {name} in {unit} is not estimable: {missing}"] if missing else []
    return columns, warnings


def compute_quantity(tree: tuple, cells: pd.DataFrame) -> pd.Series:
    """Value of a quantity's tree for each cell, float64; what is undefined (a log of zero) is NaN.

    Raises
    ------
    ConfigError
        If the cells lack a feature that the tree names.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _evaluate(tree, cells)
    return pd.Series(found, index=cells.index, dtype=float).replace([np.inf, -np.inf], np.nan)


def _evaluate(tree: tuple, cells: pd.DataFrame):
    kind, *rest = tree
    if kind == "number":
        return rest[0]
    if kind == "name":
        return _column(cells, rest[0]).to_numpy(float)
    arguments = [_evaluate(part, cells) for part in rest]
    return (OPERATORS | FUNCTIONS)[kind](*arguments)


def _column(values: pd.DataFrame, name: str) -> pd.Series:
    if name not in values:
        near = ", ".join(get_close_matches(name, values.columns, n=3)) or "none is like it"
        msg = f"profile: the cells have no feature {name!r}, which a quantity, gate or readout names; nearest: {near}"
        raise ConfigError(msg)
    return values[name]


def apply_gate(comparisons: list[tuple], values: pd.DataFrame, control: pd.Series) -> tuple[pd.Series, list[str]]:
    """Which cells pass a gate, as 1.0, 0.0 or NaN where it cannot be told, and the control types that are missing.

    Parameters
    ----------
    comparisons : list of tuple
        From `readouts.parse_gate`; a limit like (`negative`, 99) is that percentile over the cells of all such wells.
    values : DataFrame
        Quantities and features by cell.
    control : Series of str
        Control type of each cell's well.
    """
    passed, missing = pd.Series(1.0, index=values.index), []
    for name, operator, (kind, amount) in comparisons:
        own = _column(values, name).astype(float)
        reference = own if kind == "all" else own[control == kind]
        if kind != "number" and not reference.notna().any():
            missing.append(kind)
        limit = amount if kind == "number" else reference.quantile(amount / 100)
        holds = pd.Series(COMPARISONS[operator](own, limit), index=own.index, dtype=float)
        passed *= holds.where(own.notna() & np.isfinite(limit))
    return passed, missing


def _call(call: tuple[str, str], values: pd.DataFrame, passed: dict, well: pd.Series, wells: pd.DataFrame) -> pd.Series:
    """One call of a readout per well, float64; NaN for a well without cells, but a count there is 0."""
    function, name = call
    if function in readouts.OF_COUNT:
        found = wells["Metadata_Object_Count"].astype(float)
        if name:
            # A gate that nobody can evaluate counts nothing rather than zero.
            passing = wells["Metadata_Well"].map(passed[name].groupby(well).sum(min_count=1)).astype(float)
            found = passing.where(found > 0, found * 0.0)
        # An imported table may not tell its fields; a well without any has no count.
        found = found.where(wells["Metadata_Site_Count"] != 0)
        return found / wells["Metadata_Site_Count"] if function == "per_field" else found
    own = (passed[name] if function in readouts.OF_GATE else _column(values, name)).groupby(well)
    summaries = {
        "median": own.median,
        "mean": own.mean,
        "sd": own.std,
        "mad": lambda: own.apply(lambda cells: MAD_SCALE * (cells - cells.median()).abs().median()),
        "fraction": own.mean,
        "percent": lambda: 100 * own.mean(),
    }
    return wells["Metadata_Well"].map(summaries[function]()).astype(float)


def _ratio(terms: list[pd.Series]) -> pd.Series:
    return terms[0] if len(terms) == 1 else (terms[0] / terms[1]).replace([np.inf, -np.inf], np.nan)


def in_unit(raw: pd.Series, unit: str, wells: pd.DataFrame) -> tuple[pd.Series, str]:
    """A readout in the unit asked for, and what was missing for it.

    Parameters
    ----------
    raw : Series of float
        One value per well.
    unit : {'raw', 'percent_of_control', 'npi', 'robust_z'}
        Against the medians of the plate's negative (and, for the normalised percent inhibition, positive) controls.
    wells : DataFrame
        Control type and status of the same wells.

    Returns
    -------
    values : Series of float
        NaN throughout when the controls cannot carry the unit.
    missing : str
        Empty, or why.
    """
    usable = raw[(wells["Metadata_Status"] == "ok") & raw.notna()]
    control = wells.loc[usable.index, "Metadata_ControlType"]
    negative, positive = usable[control == "negative"], usable[control == "positive"]
    centre = negative.median()
    scales = {
        "raw": lambda: (raw, ""),
        "percent_of_control": lambda: (100 * raw / centre, "" if centre else "the negative controls have median 0"),
        "npi": lambda: _between(raw, centre, positive.median()),
        "robust_z": lambda: _robust_z(raw, negative),
    }
    if unit != "raw" and negative.empty:
        return raw * np.nan, "the plate has no negative controls that count"
    values, missing = scales[unit]()
    return (raw * np.nan, missing) if missing else (values, "")


def _between(raw: pd.Series, negative: float, positive: float) -> tuple[pd.Series, str]:
    if np.isnan(positive) or positive == negative:
        return raw, "the positive controls are missing or equal the negative ones"
    return 100 * (raw - negative) / (positive - negative), ""


def _robust_z(raw: pd.Series, negative: pd.Series) -> tuple[pd.Series, str]:
    spread = MAD_SCALE * (negative - negative.median()).abs().median()
    return ((raw - negative.median()) / spread, "") if spread else (raw, "the negative controls have no spread")
