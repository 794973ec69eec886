"""How many cells, fields and square millimetres a well has, and whether they are enough."""

import numpy as np
import pandas as pd

from plateline.identity import FIELD

WELL = "Metadata_Well"


def count_wells(platemap: pd.DataFrame, cells: pd.DataFrame, fields: pd.DataFrame) -> pd.DataFrame:
    """The plate map with the counts of each well.

    Parameters
    ----------
    platemap : DataFrame
        One row per well.
    cells : DataFrame
        Cells that count, `Metadata_Well`.
    fields : DataFrame
        All fields with `reason`, from `judge_fields`; `height`, `width` (pixels) and `pixel_size_um` where known.

    Returns
    -------
    DataFrame
        `Metadata_Object_Count`, `Metadata_Site_Count` (valid fields), `Metadata_Sites_Expected` (the most that any
        well of the plate has) as int64; `Metadata_Cells_Per_Field`, `Metadata_Valid_Area_mm2`,
        `Metadata_Cells_Per_mm2` and `Metadata_PixelSize_um` as float64, NaN where not known: an excluded field must
        not read as fewer cells.
    """
    well = platemap[WELL]
    valid = fields[fields["reason"] == ""]
    expected = fields.groupby(WELL).size()
    area = _area_mm2(valid).groupby(valid[WELL]).sum(min_count=1)
    size = fields.get("pixel_size_um", pd.Series(dtype=float)).median()
    counted = platemap.assign(
        Metadata_Object_Count=well.map(cells.groupby(WELL, observed=True).size()).fillna(0).astype(int),
        Metadata_Site_Count=well.map(valid.groupby(WELL).size()).fillna(0).astype(int),
        Metadata_Sites_Expected=int(expected.max()) if len(expected) else 0,
        Metadata_Valid_Area_mm2=well.map(area).astype(float),
        Metadata_PixelSize_um=float(size) if pd.notna(size) else np.nan,
    )
    return per_area(counted)


def per_area(wells: pd.DataFrame) -> pd.DataFrame:
    """Wells with their cells per valid field and per square millimetre, NaN without a field."""
    cells = wells["Metadata_Object_Count"].astype(float)
    sites, area = (wells[name].astype(float) for name in ("Metadata_Site_Count", "Metadata_Valid_Area_mm2"))
    return wells.assign(
        Metadata_Cells_Per_Field=cells / sites.where(sites > 0), Metadata_Cells_Per_mm2=cells / area.where(area > 0)
    )


def add_background(wells: pd.DataFrame, flags: pd.DataFrame, fields: pd.DataFrame) -> pd.DataFrame:
    """Wells with `Metadata_Background_{channel}`, the median over valid fields of the background, counts.

    Parameters
    ----------
    wells : DataFrame
        One row per well.
    flags : DataFrame
        One row per field and channel: identity, `Metadata_Channel`, `background` where it was measured.
    fields : DataFrame
        Fields with `reason`.
    """
    if "background" not in flags:
        return wells
    valid = flags.merge(fields.loc[fields["reason"] == "", FIELD], on=FIELD)
    levels = valid.groupby([WELL, "Metadata_Channel"])["background"].median().unstack()
    columns = {f"Metadata_Background_{name}": wells[WELL].map(levels[name]).astype(float) for name in levels}
    return wells.assign(**columns)


def _area_mm2(fields: pd.DataFrame) -> pd.Series:
    """Area of each field in square millimetres, NaN where its size is not known."""
    blank = pd.Series(np.nan, index=fields.index)
    height, width, size = (fields.get(name, blank).astype(float) for name in ("height", "width", "pixel_size_um"))
    return height * width * size**2 / 1e6


def judge_wells(wells: pd.DataFrame, declared: dict, failure: str) -> tuple[pd.Series, pd.Series]:
    """Status and reason of each well; an unknown count is not a small one.

    Parameters
    ----------
    wells : DataFrame
        With counts.
    declared : dict
        `min_cells` and `min_fields`, the fewest of a well that counts.
    failure : str
        Why the whole plate is given up, or empty.
    """
    if failure:
        return pd.Series("failed", index=wells.index, dtype=object), pd.Series(failure, index=wells.index, dtype=object)
    sites = wells["Metadata_Site_Count"]
    cases = [sites == 0, sites < declared["min_fields"], wells["Metadata_Object_Count"] < declared["min_cells"]]
    reasons = [
        "no field of this well counts",
        f"fewer fields than profile.min_fields = {declared['min_fields']}",
        f"fewer cells than profile.min_cells = {declared['min_cells']}",
    ]
    status = np.select(cases, ["no images", "few fields", "few cells"], "ok")
    texts = (status, np.select(cases, reasons, ""))
    return tuple(pd.Series(text, index=wells.index, dtype=object) for text in texts)
