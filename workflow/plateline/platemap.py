"""What is in each well: compound, dose and control type, from a table in anybody's words.

Owns the house's words for a plate map and the way of others into them. It guesses nothing: a well, a number or a
control type it cannot read is refused by name, and a well that the map does not know enters no statistics.
"""

import numpy as np
import pandas as pd

from plateline.errors import PlatelineError, PlatemapError
from plateline.identity import PREFIX, READOUT, parse_well, split_well

CONTROL_TYPES = ["negative", "untreated", "positive", "reference", "blank", "sample", "exclude"]
# JUMP's words: https://github.com/jump-cellpainting/JUMP-Target; its diverse positives are references, not one control.
JUMP = {
    "negcon": "negative",
    "poscon": "positive",
    "poscon_cp": "positive",
    "poscon_orf": "positive",
    "poscon_crispr": "positive",
    "poscon_diverse": "reference",
    "trt": "sample",
    "empty": "untreated",
}
COLUMNS = [
    "Metadata_Plate",
    "Metadata_Well",
    "Metadata_Row",
    "Metadata_Column",
    "Metadata_Compound",
    "Metadata_Concentration",
    "Metadata_ConcentrationUnit",
    "Metadata_log10_molar",
    "Metadata_Treatment",
    "Metadata_ControlType",
]

# Columns that Plateline fills in itself: a map may not bring its own meaning of them.
_OURS = ["Site", "Timepoint", "ObjectNumber", "Key", "Object_Count", "Site_Count", "Sites_Expected", "Status", "Reason"]
_DERIVED = ["log10_molar", "Treatment"]
_LOOSE = {"um": "uM", "nm": "nM", "pm": "pM", "mm": "mM"}
_LOG10_MOLAR = {"M": 0, "mM": -3, "uM": -6, "nM": -9, "pM": -12}


def tidy(
    raw: pd.DataFrame, *, plate: str, shape: int, columns: dict[str, str], controls: dict[str, str]
) -> pd.DataFrame:
    """Plate map in the house's words, one row per well of the map, sorted by well.

    Parameters
    ----------
    raw : pd.DataFrame
        The table as read, every value text; empty text or NaN where the map says nothing. Of a map with a column
        ``Plate`` only the rows of this plate are taken.
    plate : str
        Name of the plate.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    columns : dict of str to str
        Names of the map -> names of the house without ``Metadata_`` (``Well``, ``Compound``, ``Concentration``,
        ``ConcentrationUnit``, ``ControlType``, ...). Columns not named here keep their name.
    controls : dict of str to str
        Words of the map for control types -> `CONTROL_TYPES`; read before `JUMP` and the house's own words, all
        without regard to case.

    Returns
    -------
    pd.DataFrame
        `COLUMNS`, then every further column of the map as ``Metadata_{name}`` (text). `Metadata_Concentration` and
        `Metadata_log10_molar` are float64: NaN without a concentration, the latter also for units that are not molar
        and for a concentration of 0. Units nM, uM (any spelling of micro), mM and pM in either case, and M, are molar.
        `Metadata_Treatment` is ``compound@concentration unit`` (six significant digits), the compound alone without
        concentration, the control type without compound. A well without control type is a ``sample`` if it has a
        compound, else ``untreated``. An empty map gives an empty table of the same columns.

    Raises
    ------
    PlatemapError
        If the map has no column of wells, lacks a column named in `columns`, has two columns of one name or one that
        Plateline fills itself; if a well is none, is not on the plate or occurs twice; if a concentration is no
        number >= 0; if a control type is unknown; if the map names plates but not this one.
    """
    frame = _rename(raw, plate, columns)
    frame = _keep_plate(frame, plate)
    frame["Metadata_Plate"] = pd.Series(plate, index=frame.index, dtype=object)
    frame["Metadata_Well"] = _read_wells(frame["Metadata_Well"], plate, shape)
    for column in ("Metadata_Compound", "Metadata_Concentration", "Metadata_ConcentrationUnit", "Metadata_ControlType"):
        if column not in frame:
            frame[column] = pd.Series("", index=frame.index, dtype=object)
    frame["Metadata_Concentration"] = _read_concentrations(frame, plate)
    frame["Metadata_ControlType"] = _read_control_types(frame, plate, controls)
    frame = _derive(frame)
    further = [column for column in frame if column not in COLUMNS]
    return frame[COLUMNS + further].sort_values("Metadata_Well", ignore_index=True)


def whole_plate(
    tidy: pd.DataFrame, wells_with_images: list[str], *, plate: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plate map of the wells that have images, and the wells of the map that have none.

    Parameters
    ----------
    tidy : pd.DataFrame
        From `tidy`.
    wells_with_images : list of str
        Canonical names, any order.
    plate : str
        Name of the plate for a map without rows; otherwise the map's own is taken.

    Returns
    -------
    wells : pd.DataFrame
        One row per well with images, sorted; the columns of `tidy` and `Metadata_Reason`, empty except for wells that
        the map lacks: these have control type ``exclude``, so that nothing unknown enters statistics.
    left_out : pd.DataFrame
        The rows of `tidy` without images, with a column `reason`.
    """
    plate = str(tidy["Metadata_Plate"].iloc[0]) if len(tidy) else plate
    wells = pd.Index(sorted(set(wells_with_images)), name="Metadata_Well", dtype=object)
    known = tidy["Metadata_Well"].isin(wells)
    frame = tidy[known].set_index("Metadata_Well").reindex(wells).reset_index()
    unknown = ~frame["Metadata_Well"].isin(tidy["Metadata_Well"])
    texts = [column for column in frame if column not in ("Metadata_Concentration", "Metadata_log10_molar")]
    frame[texts] = frame[texts].fillna("")
    frame.loc[unknown, ["Metadata_Plate", "Metadata_Treatment", "Metadata_ControlType"]] = [plate, "exclude", "exclude"]
    frame = _place(frame)[list(tidy.columns)]
    frame["Metadata_Reason"] = np.where(unknown, "the plate map has no such well", "").astype(object)
    return frame, tidy[~known].assign(reason="the plate has no images of this well").reset_index(drop=True)


def _rename(raw: pd.DataFrame, plate: str, columns: dict[str, str]) -> pd.DataFrame:
    """All columns as stripped text under their ``Metadata_`` names."""
    missing = [theirs for theirs in columns if theirs not in raw]
    if missing:
        msg = f"plate map of {plate} has no column {missing}, named in platemap.columns; it has {list(raw.columns)}"
        raise PlatemapError(msg)
    names = [PREFIX + str(columns.get(name, name)).strip().removeprefix(PREFIX) for name in raw]
    _check_names(names, plate)
    frame = raw.set_axis(names, axis=1).reset_index(drop=True).astype(object)
    return frame.where(frame.notna(), "").apply(lambda column: column.astype(str).str.strip().astype(object))


def _check_names(names: list[str], plate: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        msg = f"plate map of {plate} has more than one column {repeated}; expected each once: see platemap.columns"
        raise PlatemapError(msg)
    if "Metadata_Well" not in names:
        theirs = [name.removeprefix(PREFIX) for name in names]
        msg = (
            f"plate map of {plate} has no column Well, only {theirs}; name it in platemap.columns, as `position: Well`"
        )
        raise PlatemapError(msg)
    taken = [name for name in names if name.removeprefix(PREFIX) in _OURS + _DERIVED or name.startswith(READOUT)]
    if taken:
        msg = f"plate map of {plate} has columns {taken}, which Plateline fills itself; rename them in platemap.columns"
        raise PlatemapError(msg)


def _keep_plate(frame: pd.DataFrame, plate: str) -> pd.DataFrame:
    if "Metadata_Plate" not in frame or frame.empty:
        return frame
    chosen = frame[frame["Metadata_Plate"].isin([plate, ""])].reset_index(drop=True)
    if chosen.empty:
        named = sorted(set(frame["Metadata_Plate"]))[:10]
        msg = f"plate map has no row of plate {plate}, only of {named}; correct its column Plate or the plate sheet"
        raise PlatemapError(msg)
    return chosen


def _read_wells(texts: pd.Series, plate: str, shape: int) -> pd.Series:
    try:
        wells = texts.map(lambda text: parse_well(text, shape)).astype(object)
    except PlatelineError as error:
        msg = f"plate map of {plate}: {error}; correct the map or `shape` in the plate sheet"
        raise PlatemapError(msg) from error
    repeated = sorted(set(wells[wells.duplicated()]))
    if repeated:
        msg = f"plate map of {plate} has more than one row for {', '.join(repeated)}; expected one row per well"
        raise PlatemapError(msg)
    return wells


def _read_concentrations(frame: pd.DataFrame, plate: str) -> pd.Series:
    """Concentrations as float64, NaN where the map says nothing."""
    texts = frame["Metadata_Concentration"]
    # NaN stays NaN through to_numeric, so that "nan" and "inf" written by hand are refused with the other texts.
    numbers = pd.to_numeric(texts.where(texts != "", np.nan), errors="coerce").astype(float)
    bad = (texts != "") & ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        well, text = frame.loc[bad.idxmax(), "Metadata_Well"], texts[bad.idxmax()]
        hint = ": write the decimal with a point" if "," in text else ""
        msg = (
            f"plate map of {plate}, well {well}: concentration {text!r} is no number; expected a number >= 0, "
            f"or nothing where there is no dose{hint} ({bad.sum()} such wells)"
        )
        raise PlatemapError(msg)
    return numbers


def _read_control_types(frame: pd.DataFrame, plate: str, controls: dict[str, str]) -> pd.Series:
    words = {**{word: word for word in CONTROL_TYPES}, **JUMP}
    words |= {theirs.strip().lower(): ours.strip().lower() for theirs, ours in controls.items()}
    texts = frame["Metadata_ControlType"]
    default = pd.Series(np.where(frame["Metadata_Compound"] != "", "sample", "untreated"), frame.index, dtype=object)
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


def _derive(frame: pd.DataFrame) -> pd.DataFrame:
    """Add what follows from the columns read: unit in one spelling, log10 molar, treatment, place on the plate."""
    units = frame["Metadata_ConcentrationUnit"].str.replace("[µμ]", "u", regex=True).astype(object)
    # People write um and NM; a bare m is left alone, since it may be meant for milli.
    units = units.map(lambda unit: _LOOSE.get(unit.lower(), unit))
    dose = frame["Metadata_Concentration"]
    # A concentration of 0 has no logarithm; NaN keeps the well out of curves without a warning.
    exponent = units.map(_LOG10_MOLAR).astype(float)
    frame["Metadata_ConcentrationUnit"] = units
    frame["Metadata_log10_molar"] = np.log10(dose.where(dose > 0)) + exponent
    name = frame["Metadata_Compound"].where(frame["Metadata_Compound"] != "", frame["Metadata_ControlType"])
    doses = ["" if np.isnan(d) else f"@{d:g} {u}".rstrip() for d, u in zip(dose, units, strict=True)]
    frame["Metadata_Treatment"] = name + pd.Series(doses, index=frame.index, dtype=object)
    return _place(frame)


def _place(frame: pd.DataFrame) -> pd.DataFrame:
    """Row letters (text) and column number (int64, from 1) of every well."""
    places = [split_well(well) for well in frame["Metadata_Well"]]
    return frame.assign(
        Metadata_Row=pd.Series([row for row, _ in places], index=frame.index, dtype=object),
        Metadata_Column=np.array([int(column) for _, column in places], dtype=np.int64),
    )
