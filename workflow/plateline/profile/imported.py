"""Rows of somebody else's table as the wells, fields or cells of a plate.

Decides what a row is, refuses wells that stand twice, and takes the plate map from the table where the sheet names
none.
"""

import numpy as np
import pandas as pd

from plateline import platemap, readouts
from plateline.errors import SourceError
from plateline.identity import FIELD, PREFIX, READOUT
from plateline.profile.counts import per_area

SITE, CELLS = "Metadata_Site", "Metadata_Object_Count"
# What Plateline fills in itself: a table that has it, as one of Plateline's own, does not say it again.
_OURS = {"Status", "Reason", "Treatment", "log10_molar", "Object_Count", "Site_Count", "Sites_Expected", "Plate"}
_OURS |= {"Well", "Row", "Column", "Site", "Timepoint", "ObjectNumber", "Key", "Batch", "Barcode"}
_OURS |= {"Cells_Per_Field", "Cells_Per_mm2", "Valid_Area_mm2", "PixelSize_um"}
# Functions of a readout that need a plate's cells one by one.
_OF_CELLS = {*readouts.OF_GATE, "sd", "mad"}


def kind_of_rows(rows: pd.DataFrame, names: list[str], *, chosen: str, plate: str) -> str:
    """What a row of the table is: `wells`, `fields` or `cells`.

    Parameters
    ----------
    rows : DataFrame
        FIELD columns without the plate's, one row per row of the table.
    names : list of str
        Columns of the table under our names.
    chosen : {'auto', 'wells', 'fields', 'cells'}
        `auto`: cells where the table numbers objects, fields where it numbers sites, else wells.
    plate : str
        For the message.

    Raises
    ------
    SourceError
        If a well, or a field, stands in more than one row.
    """
    told = "cells" if "Metadata_ObjectNumber" in names else "fields" if SITE in names else "wells"
    kind = told if chosen == "auto" else chosen
    identity = {"wells": FIELD[1:2], "fields": FIELD[1:], "cells": []}[kind]
    known = rows[rows["Metadata_Well"].notna()]
    twice = known[known.duplicated(identity)] if identity else known.iloc[:0]
    if len(twice):
        wells = ", ".join(sorted(set(twice["Metadata_Well"]))[:5])
        msg = (
            f"profiles of plate {plate}: {len(twice)} rows too many for {len(known) - len(twice)} {kind} ({wells}); "
            f"expected one row for each of the {kind}: correct the table, or say in profile.imported.rows what a row is"
        )
        raise SourceError(msg)
    return kind


def fields_of_rows(rows: pd.DataFrame, *, plate: str) -> pd.DataFrame:
    """The fields that a table speaks of, all of them good until they are judged: FIELD, `status`, `reason`."""
    places = rows.loc[rows["Metadata_Well"].notna(), FIELD[1:]].drop_duplicates().astype({"Metadata_Well": object})
    fields = places.sort_values(FIELD[1:], ignore_index=True)
    fields.insert(0, "Metadata_Plate", pd.Series(plate, index=fields.index, dtype=object))
    return fields.assign(status="ok", reason="")


def no_flags() -> pd.DataFrame:
    """Flags of a plate without images."""
    return pd.DataFrame({name: pd.Series(dtype=object) for name in [*FIELD, "Metadata_Channel"]}).astype(
        {"Metadata_Site": int, "Metadata_Timepoint": int}
    )


def judge_rows(rows: pd.DataFrame, fields: pd.DataFrame) -> pd.Series:
    """Reason for which each row is excluded, empty text for one that counts."""
    keys = rows[FIELD[1:]].astype({"Metadata_Well": object})
    found = keys.merge(fields[[*FIELD[1:], "reason"]], on=FIELD[1:], how="left")["reason"].set_axis(rows.index)
    reason = found.where(found.isna() | (found == ""), "its field is excluded: " + found.astype(str))
    return reason.fillna("the table names no well").astype(object)


def map_of_table(
    metadata: pd.DataFrame, *, plate: str, shape: int, controls: dict[str, str], batch: str, barcode: str
) -> pd.DataFrame:
    """Plate map of a plate whose table says itself what is in its wells.

    Parameters
    ----------
    metadata : DataFrame
        `Metadata_Well` and what else the table says, one row per well.
    plate : str
    shape : int
        Wells of the plate.
    controls : dict of str to str
        As in `platemap.tidy`.
    batch, barcode : str
        Of the sheet.

    Returns
    -------
    DataFrame
        As the rule `platemap_plate` makes it.

    Raises
    ------
    PlatemapError
        As `platemap.tidy`.
    """
    raw = pd.DataFrame({"Well": metadata["Metadata_Well"].astype(str)})
    for name in metadata.columns.drop("Metadata_Well"):
        ours = name.removeprefix(PREFIX)
        if ours not in _OURS and not name.startswith(READOUT):
            raw[ours] = [_text(value) for value in metadata[name]]
    tidy = platemap.tidy(raw, plate=plate, shape=shape, columns={}, controls=controls)
    wells, _ = platemap.whole_plate(tidy, list(tidy["Metadata_Well"]), plate=plate)
    return wells.assign(Metadata_Batch=batch, Metadata_Barcode=barcode or plate)


def _text(value: object) -> str:
    """A value as a person would type it into a plate map."""
    if value is None or value != value or value is pd.NA:
        return ""
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def join_map(wells: pd.DataFrame, rows: pd.DataFrame, *, plate: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The plate map of the wells that the table has, and the wells of the map that it lacks, with `reason`."""
    present = list(rows["Metadata_Well"].dropna().unique())
    joined, left_out = platemap.whole_plate(
        wells.drop(columns="Metadata_Reason", errors="ignore"), present, plate=plate
    )
    for name in ("Metadata_Batch", "Metadata_Barcode"):  # a well that the map lacks is on this plate all the same
        joined[name] = wells[name].iloc[0] if len(wells) else ""
    return joined, left_out.assign(reason="the table has no row of this well")


def without_treatment(wells: pd.DataFrame) -> pd.DataFrame:
    """`reason` and `count` of the wells of which nobody says what is in them; no row where there are none."""
    unknown = (wells["Metadata_Compound"] == "") & wells["Metadata_ControlType"].isin(["untreated", "exclude"])
    reason = "neither a compound nor a control type: no treatment, enters no comparison"
    return pd.DataFrame({"reason": [reason], "count": [int(unknown.sum())]}).iloc[: int(unknown.any())]


def count_imported(
    wells: pd.DataFrame, rows: pd.DataFrame, metadata: pd.DataFrame, fields: pd.DataFrame, *, kind: str
) -> pd.DataFrame:
    """The plate map with the counts of each well, as far as the table tells them.

    Parameters
    ----------
    wells : DataFrame
        Plate map.
    rows : DataFrame
        Rows that count; `Metadata_Object_Count` of each, where the table has it and rows are no cells.
    metadata : DataFrame
        From the table, one row per well.
    fields : DataFrame
        All fields with `reason`.
    kind : {'wells', 'fields', 'cells'}

    Returns
    -------
    DataFrame
        The columns of `count_wells`, all float64: NaN is not known.
    """
    of_well = wells["Metadata_Well"]
    told = metadata.set_index("Metadata_Well")
    grouped = rows.groupby(rows["Metadata_Well"].astype(object))
    valid, expected = (
        fields[fields["reason"] == ""].groupby("Metadata_Well").size(),
        fields.groupby("Metadata_Well").size(),
    )
    known = pd.Series(np.nan, index=of_well)
    cells = grouped.size() if kind == "cells" else grouped[CELLS].sum(min_count=1) if CELLS in rows else known
    # Where the table numbers no sites, every well has one row of fields, which says nothing.
    numbered = fields[SITE].gt(0).any()
    sites = valid.reindex(of_well).fillna(0) if numbered else _told(told, "Metadata_Site_Count")
    most = pd.Series(expected.max(), of_well) if numbered else _told(told, "Metadata_Sites_Expected")
    counted = wells.assign(
        Metadata_Object_Count=of_well.map(cells).astype(float),
        Metadata_Site_Count=of_well.map(sites).astype(float),
        Metadata_Sites_Expected=of_well.map(most).astype(float),
        Metadata_Valid_Area_mm2=of_well.map(_told(told, "Metadata_Valid_Area_mm2")).astype(float),
        Metadata_PixelSize_um=of_well.map(_told(told, "Metadata_PixelSize_um")).astype(float),
    )
    gone = ~of_well.isin(rows["Metadata_Well"])
    counted.loc[gone, [CELLS, "Metadata_Site_Count"]] = 0.0
    return per_area(counted)


def _told(metadata: pd.DataFrame, name: str) -> pd.Series:
    """A number that the table has for its wells, NaN where it has none."""
    blank = pd.Series(np.nan, index=metadata.index)
    return pd.to_numeric(metadata.get(name, blank), errors="coerce").astype(float)


def blank_readouts(
    profile: pd.DataFrame, warnings: pd.DataFrame, called: dict[str, tuple], *, kind: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A profile without the readouts that need cells one by one, where the table has none, and that said."""
    names = [name for name, (calls, _) in called.items() if kind != "cells" and any(map(_needs_cells, calls))]
    said = [f"readout {name} is not estimable: a row of the table is one of the {kind}, not a cell" for name in names]
    blank = profile.assign(**{READOUT + name: np.nan for name in names})
    return blank, pd.concat([warnings, pd.DataFrame({"reason": said}, dtype=object)], ignore_index=True)


def _needs_cells(call: tuple[str, str]) -> bool:
    function, name = call
    return function in _OF_CELLS or (function in readouts.OF_COUNT and name != "")


def note_infinite(infinite: pd.Series, number: int) -> pd.DataFrame:
    """`reason` and `count` of features with infinite values, which count as missing; no row where there are none."""
    bad = infinite[infinite > 0]
    names = ", ".join(bad.index[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    reason = f"infinite values are taken as missing: {int(bad.sum())} in {len(bad)} features of {number} rows ({names})"
    return pd.DataFrame({"reason": [reason], "count": [int(bad.sum())]}).iloc[: int(len(bad) > 0)]
