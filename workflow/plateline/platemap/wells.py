"""The plate map in the house's words, and the part of it that has images.

It guesses nothing: a well, a number or a control type it cannot read is refused by name, and a well that the map does
not know enters no statistics.
"""

import numpy as np
import pandas as pd

from plateline.errors import PlatemapError
from plateline.identity import PREFIX, READOUT, split_well
from plateline.platemap.columns import read_concentrations, read_control_types, read_wells
from plateline.platemap.mangled import refuse_damage
from plateline.platemap.words import COLUMNS, LOG10_MOLAR, TO_JUMP, house_names, one_spelling

# Columns that Plateline fills in itself: a map may not bring its own meaning of them.
_OURS = ["Site", "Timepoint", "ObjectNumber", "Key", "Object_Count", "Site_Count", "Sites_Expected", "Status", "Reason"]
_DERIVED = ["log10_molar", "Treatment"]
_PLACE = ["Row", "Column"]


def tidy(
    raw: pd.DataFrame, *, plate: str, shape: int, columns: dict[str, str], controls: dict[str, str], unit: str = ""
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
        ``ConcentrationUnit``, ``ControlType``, ...). Columns not named here keep their name, but for the Broad's
        (`plateline.platemap.words.BROAD`) and concentrations with their unit in the header, ``Concentration_uM``.
    controls : dict of str to str
        Words of the map for control types -> `CONTROL_TYPES`; read before `JUMP` and the house's own words, all
        without regard to case. A well without control type has that of its compound, if it is named here.
    unit : {'', 'M', 'mM', 'uM', 'nM', 'pM'}
        Unit that molar concentrations are converted to; empty leaves them in the map's own.

    Returns
    -------
    pd.DataFrame
        `COLUMNS`, then every further column of the map as ``Metadata_{name}`` (text). `Metadata_Concentration` and
        `Metadata_log10_molar` are float64: NaN without a concentration, the latter also for units that are not molar
        and for a concentration of 0. Units nM, uM (any spelling of micro), mM and pM in either case, and M, are molar.
        `Metadata_Treatment` is ``compound@concentration unit`` (six significant digits), the compound alone without
        concentration, the control type without compound. A well without control type is a ``sample`` if it has a
        compound, else ``untreated``. `Metadata_pert_type` and `Metadata_control_type` are JUMP's words for it; where
        the map brings these columns their words are kept, and read where it has no ``ControlType``. An empty map gives
        an empty table of the same columns.

    Raises
    ------
    PlatemapError
        If the map has no column of wells, lacks a column named in `columns`, has two columns of one name or one that
        Plateline fills itself; if a well is none, is not on the plate or occurs twice; if a concentration is no
        number >= 0 or has two units; if a control type is unknown or contradicted; if the map names plates but not this
        one; if a spreadsheet made a date, a number or an error of a name.
    """
    frame, header_unit = _rename(raw, plate, columns)
    frame = _keep_plate(frame, plate)
    frame["Metadata_Plate"] = pd.Series(plate, index=frame.index, dtype=object)
    frame["Metadata_Well"] = read_wells(frame["Metadata_Well"], plate, shape)
    for column in COLUMNS:
        if column not in frame and column.removeprefix(PREFIX) not in _DERIVED + _PLACE:
            frame[column] = pd.Series("", index=frame.index, dtype=object)
    refuse_damage(frame, plate)
    doses, units = read_concentrations(frame, plate, header_unit)
    frame["Metadata_Concentration"], frame["Metadata_ConcentrationUnit"] = doses, units
    frame["Metadata_ControlType"] = read_control_types(frame, plate, controls)
    frame = _to_jump(_convert(frame, unit))
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


def _rename(raw: pd.DataFrame, plate: str, columns: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """All columns as stripped text under their ``Metadata_`` names, and the unit in the concentration's header."""
    missing = [theirs for theirs in columns if theirs not in raw]
    if missing:
        msg = f"plate map of {plate} has no column {missing}, named in platemap.columns; it has {list(raw.columns)}"
        raise PlatemapError(msg)
    names, unit = house_names([str(name) for name in raw], columns)
    _check_names(names, plate)
    frame = raw.set_axis(names, axis=1).reset_index(drop=True).astype(object)
    return frame.where(frame.notna(), "").apply(lambda column: column.astype(str).str.strip().astype(object)), unit


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
        bare = frame["Metadata_Plate"].str.lstrip("0").isin([plate.lstrip("0")]).any()
        zeros = " (a spreadsheet may have taken leading zeros)" if bare else ""
        msg = f"plate map has no row of plate {plate}, only of {named}{zeros}; correct its column Plate or the sheet"
        raise PlatemapError(msg)
    return chosen


def _convert(frame: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Concentrations in one unit where they are molar and a unit is asked for."""
    exponents = frame["Metadata_ConcentrationUnit"].map(one_spelling).map(LOG10_MOLAR).astype(float)
    molar = exponents.notna() & (unit != "")
    if not molar.any():
        return frame
    factors = 10.0 ** (exponents[molar] - LOG10_MOLAR[unit])
    # Twelve digits: 100 nM and 0.1 uM must become the same number.
    doses = [float(f"{dose:.12g}") for dose in frame.loc[molar, "Metadata_Concentration"] * factors]
    frame.loc[molar, "Metadata_Concentration"] = doses
    frame.loc[molar, "Metadata_ConcentrationUnit"] = unit
    return frame


def _to_jump(frame: pd.DataFrame) -> pd.DataFrame:
    """JUMP's words for the control type, where the map has not its own."""
    for place, column in enumerate(("Metadata_pert_type", "Metadata_control_type")):
        words = frame["Metadata_ControlType"].map({ours: pair[place] for ours, pair in TO_JUMP.items()})
        frame[column] = frame[column].where(frame[column] != "", words).astype(object)
    return frame


def _derive(frame: pd.DataFrame) -> pd.DataFrame:
    """Add what follows from the columns read: unit in one spelling, log10 molar, treatment, place on the plate."""
    units = frame["Metadata_ConcentrationUnit"].map(one_spelling).astype(object)
    dose = frame["Metadata_Concentration"]
    # A concentration of 0 has no logarithm; NaN keeps the well out of curves without a warning.
    exponent = units.map(LOG10_MOLAR).astype(float)
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
