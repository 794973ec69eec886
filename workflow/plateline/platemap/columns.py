"""The columns of a plate map that must be understood: wells, concentrations, control types.

What cannot be read is refused by well and value.
"""

import numpy as np
import pandas as pd

from plateline.errors import PlatelineError, PlatemapError
from plateline.identity import parse_well
from plateline.platemap.mangled import damage
from plateline.platemap.words import CONTROL_TYPES, JUMP, one_spelling, split_dose


def read_wells(texts: pd.Series, plate: str, shape: int) -> pd.Series:
    """Canonical names of the wells, each once."""
    wells = pd.Series([_well(text, plate, shape) for text in texts], index=texts.index, dtype=object)
    repeated = sorted(set(wells[wells.duplicated()]))
    if repeated:
        msg = f"plate map of {plate} has more than one row for {', '.join(repeated)}; expected one row per well"
        raise PlatemapError(msg)
    return wells


def _well(text: str, plate: str, shape: int) -> str:
    try:
        return parse_well(text, shape)
    except PlatelineError as error:
        step = damage(text) or "correct the map or `shape` in the plate sheet"
        msg = f"plate map of {plate}, column Well: {error}; {step}"
        raise PlatemapError(msg) from error


def read_concentrations(frame: pd.DataFrame, plate: str, header_unit: str) -> tuple[pd.Series, pd.Series]:
    """Concentrations as float64, NaN where the map says nothing, and their units as text.

    A unit may stand beside the number, in the column of units or in the header (`header_unit`); never two of them.
    """
    split = [split_dose(text) for text in frame["Metadata_Concentration"]]
    texts = pd.Series([number for number, _ in split], index=frame.index, dtype=object)
    beside = pd.Series([unit for _, unit in split], index=frame.index, dtype=object)
    headed = pd.Series(np.where(texts != "", header_unit, ""), index=frame.index, dtype=object)
    units = frame["Metadata_ConcentrationUnit"]
    for other in (beside, headed):
        _refuse_other_unit(frame, units, other, plate)
        units = units.where(units != "", other)
    return _read_numbers(frame["Metadata_Well"], texts, plate), units.astype(object)


def _refuse_other_unit(frame: pd.DataFrame, units: pd.Series, other: pd.Series, plate: str) -> None:
    bad = (units != "") & (other != "") & (units.map(one_spelling) != other)
    if bad.any():
        well, first, second = frame.loc[bad.idxmax(), "Metadata_Well"], units[bad.idxmax()], other[bad.idxmax()]
        msg = (
            f"plate map of {plate}, well {well}: concentration has the units {first!r} and {second!r}; expected one of "
            f"them: correct the column of units, the header or the value ({bad.sum()} such wells)"
        )
        raise PlatemapError(msg)


def _read_numbers(wells: pd.Series, texts: pd.Series, plate: str) -> pd.Series:
    # NaN stays NaN through to_numeric, so that "nan" and "inf" written by hand are refused with the other texts.
    numbers = pd.to_numeric(texts.where(texts != "", np.nan), errors="coerce").astype(float)
    bad = (texts != "") & ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        well, text = wells[bad.idxmax()], texts[bad.idxmax()]
        hint = f": {damage(text)}" if damage(text) else ""
        hint = ": write the decimal with a point" if "," in text else hint
        msg = (
            f"plate map of {plate}, well {well}: concentration {text!r} is no number; expected a number >= 0, "
            f"or nothing where there is no dose{hint} ({bad.sum()} such wells)"
        )
        raise PlatemapError(msg)
    return numbers


def read_control_types(frame: pd.DataFrame, plate: str, controls: dict[str, str]) -> pd.Series:
    """Control types of the house, from its own column or those of JUMP, else from the compound."""
    given = {theirs.strip().lower(): ours.strip().lower() for theirs, ours in controls.items()}
    words = {word: word for word in CONTROL_TYPES} | JUMP | given
    _refuse_contradiction(frame, plate, words)
    texts = frame["Metadata_ControlType"]
    for column in ("Metadata_control_type", "Metadata_pert_type"):
        texts = texts.where(texts != "", frame[column])
    compound = frame["Metadata_Compound"]
    default = pd.Series(np.where(compound != "", "sample", "untreated"), frame.index, dtype=object)
    named = compound.str.lower().map(given)
    default = default.where(named.isna(), named)
    types = texts.str.lower().map(words).where(texts != "", default).astype(object)
    bad = ~types.isin(CONTROL_TYPES)
    if bad.any():
        well, text = frame.loc[bad.idxmax(), "Metadata_Well"], texts[bad.idxmax()]
        msg = (
            f"plate map of {plate}, well {well}: control type {text!r} is unknown ({bad.sum()} such wells); expected "
            f"one of {', '.join(CONTROL_TYPES)}, a word of JUMP ({', '.join(JUMP)}) or one named in platemap.controls"
        )
        raise PlatemapError(msg)
    return types


def _refuse_contradiction(frame: pd.DataFrame, plate: str, words: dict[str, str]) -> None:
    """Columns that JUMP has for one thing may not say two; its `control` and `trt` go with any control type."""
    pert, control = (frame[name].str.lower().map(words) for name in ("Metadata_pert_type", "Metadata_control_type"))
    pert = pert.where(~frame["Metadata_pert_type"].str.lower().isin(["control", "trt"]))
    own = frame["Metadata_ControlType"].str.lower().map(words)
    for first, second in ((pert, control), (pert, own), (control, own)):
        bad = first.notna() & second.notna() & (first != second)
        if bad.any():
            well = frame.loc[bad.idxmax(), "Metadata_Well"]
            msg = (
                f"plate map of {plate}, well {well}: its columns ControlType, control_type and pert_type say both "
                f"{first[bad.idxmax()]} and {second[bad.idxmax()]}; expected one ({bad.sum()} such wells)"
            )
            raise PlatemapError(msg)
