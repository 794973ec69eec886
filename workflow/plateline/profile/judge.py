"""What of a plate counts: its images' fields and cells, or the rows of its table, with a ledger of the rest."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.identity import FIELD
from plateline.profile import imported
from plateline.profile.counts import add_background, count_wells
from plateline.profile.exclude import compare_exclusions, count_reasons, judge_cells, judge_fields, read_exclusions


@dataclass(frozen=True)
class Judged:
    """What counts.

    Attributes
    ----------
    kept : (N,) bool
        Which cells, or rows of the table, count.
    cells : DataFrame
        Identity of those.
    wells : DataFrame
        The plate map with counts.
    failure : str
        Why the plate is given up, or empty.
    kind : {'cells', 'fields', 'wells'}
        What a row is.
    entries : list of tuple
        For the ledger: `count`, unit, number in, number out; or `exclusion` or `warning`, unit, rows.
    """

    kept: npt.NDArray[np.bool_]
    cells: pd.DataFrame
    wells: pd.DataFrame
    failure: str = ""
    kind: str = "cells"
    entries: list[tuple] = field(default_factory=list)


def judge_images(
    cells: pd.DataFrame,
    nuclei: pd.DataFrame,
    fields: pd.DataFrame,
    flags: pd.DataFrame,
    platemap: pd.DataFrame,
    *,
    listed: list[pd.DataFrame],
    section: dict,
) -> Judged:
    """Which cells of a plate with images count.

    Parameters
    ----------
    cells, nuclei : DataFrame
        As in `judge_cells`.
    fields, flags : DataFrame
        As in `judge_fields`; `height`, `width`, `pixel_size_um` of the fields give areas.
    platemap : DataFrame
        One row per well.
    listed : list of DataFrame
        Tables of exclusions by hand, as they were typed.
    section : dict
        `exclude_flags`, `max_bad_fields`, `max_disagreement`, `exclude_border`.
    """
    plate = str(platemap["Metadata_Plate"].iloc[0]) if len(platemap) else ""
    read = [read_exclusions(raw, fields, plate=plate) for raw in listed]
    limits = {name: section[name] for name in ("exclude_flags", "max_bad_fields", "max_disagreement")}
    judged, failure = judge_fields(fields, flags, *[known for known, _ in read], **limits)
    facts = fields[[*FIELD, *(name for name in ("height", "width", "pixel_size_um") if name in fields)]]
    judged = judged.merge(facts, how="left", on=FIELD)
    reasons = judge_cells(cells, nuclei, judged[[*FIELD, "reason"]], exclude_border=section["exclude_border"])
    bad, kept = judged[judged["reason"] != ""], (reasons == "").to_numpy()
    entries = [
        ("count", "fields", len(judged), len(judged) - len(bad)),
        ("exclusion", "fields", bad),
        ("warning", "fields", compare_exclusions(judged, platemap)),
        *[("warning", "fields", unknown) for _, unknown in read],
        ("count", "cells", len(cells), int(kept.sum())),
        ("exclusion", "cells", count_reasons(cells, reasons)),
    ]
    counted = cells[kept].reset_index(drop=True)
    wells = add_background(count_wells(platemap, counted, judged), flags, judged)
    return Judged(kept, counted, wells, failure, "cells", entries)


def judge_table(
    rows: pd.DataFrame,
    metadata: pd.DataFrame,
    platemap: pd.DataFrame | None,
    *,
    plate: str,
    names: list[str],
    listed: list[pd.DataFrame],
    section: dict,
) -> Judged:
    """Which rows of somebody else's table count.

    Parameters
    ----------
    rows : DataFrame
        `Metadata_Well`, `Metadata_Site`, `Metadata_Timepoint` of each row, `Metadata_Object_Count` where it has one.
    metadata : DataFrame
        What the table says of its wells, one row per well.
    platemap : DataFrame or None
        Of the sheet; None takes what the table says.
    plate : str
    names : list of str
        Columns of the table under our names.
    listed : list of DataFrame
        Tables of exclusions by hand, as they were typed.
    section : dict
        `imported`, `shape`, `batch`, `barcode`.

    Raises
    ------
    SourceError
        If a well or field stands twice.
    PlatemapError
        If what the table says of its wells cannot be read.
    """
    kind = imported.kind_of_rows(rows, names, chosen=section["imported"]["rows"], plate=plate)
    if platemap is None:
        facts = {name: section[name] for name in ("batch", "barcode")} | {"shape": int(section["shape"])}
        controls = section["imported"]["controls"]
        platemap = imported.map_of_table(metadata, plate=plate, controls=controls, **facts)
    wells, left_out = imported.join_map(platemap, rows, plate=plate)
    fields = imported.fields_of_rows(rows, plate=plate)
    read = [read_exclusions(raw, fields, plate=plate) for raw in listed]
    fields, _ = judge_fields(
        fields, imported.no_flags(), *[known for known, _ in read], exclude_flags=[], max_bad_fields=1.0
    )
    reasons = imported.judge_rows(rows, fields)
    kept = (reasons == "").to_numpy()
    placed = rows.astype({"Metadata_Well": object}).fillna({"Metadata_Well": ""}).assign(Metadata_Plate=plate)
    entries = [
        ("count", "rows", len(rows), int(kept.sum())),
        ("exclusion", "rows", count_reasons(placed, reasons)),
        *[("warning", "rows", unknown) for _, unknown in read],
        ("warning", "wells", left_out),
        ("warning", "wells", imported.without_treatment(wells)),
    ]
    counts = imported.count_imported(wells, rows[kept], metadata, fields, kind=kind)
    return Judged(kept, placed[kept].reset_index(drop=True), counts, "", kind, entries)
