"""Which wells are pictured, and the line of each plate on the page of the screen."""

import pandas as pd

from plateline.identity import READOUT

# Compounds pictured at their mid dose; more would not fit a row of pictures.
_MOST_COMPOUNDS = 3


def pick_wells(wells: pd.DataFrame, readouts: list[str]) -> list[tuple[str, str]]:
    """Wells for the gallery with titles: a usual negative control, each compound halfway, usual positive controls.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table.
    readouts : list of str
        The first decides: usual is nearest the median of its kind, halfway is between negative and positive.

    Returns
    -------
    list of tuple of str
        Well and title; empty for a plate without wells that count.
    """
    if not readouts:
        return []
    value = wells[READOUT + readouts[0]].astype(float)
    ok = wells[(wells["Metadata_Status"] == "ok") & value.notna()]
    kinds = {kind: ok[ok["Metadata_ControlType"] == kind] for kind in ("negative", "sample", "positive")}
    usual = {kind: value[rows.index].median() for kind, rows in kinds.items()}
    halfway = (usual["negative"] + usual["positive"]) / 2
    samples = list(kinds["sample"].groupby("Metadata_Compound"))[:_MOST_COMPOUNDS]
    picks = [(kinds["negative"], usual["negative"])]
    picks += [(rows, halfway if pd.notna(halfway) else value[rows.index].median()) for _, rows in samples]
    picks += [(rows, value[rows.index].median()) for _, rows in kinds["positive"].groupby("Metadata_Compound")]
    nearest = [(value[rows.index] - goal).abs() for rows, goal in picks]
    chosen = [ok.loc[distance.idxmin()] for distance in nearest if len(distance)]
    return [(well["Metadata_Well"], _title(well)) for well in chosen]


def _title(well: pd.Series) -> str:
    kind = well["Metadata_ControlType"]
    return well["Metadata_Treatment"] + ("" if kind == "sample" else f" ({kind})")


def plate_table(wells: pd.DataFrame) -> pd.DataFrame:
    """One row per plate: `Metadata_Plate`, `Metadata_Batch`, `status` (`ok` or `failed`) and `reason`."""
    plates = wells.groupby("Metadata_Plate", as_index=False).first()
    failed = plates["Metadata_Status"] == "failed"
    table = plates[["Metadata_Plate", "Metadata_Batch"]].copy()
    table["status"] = failed.map({True: "failed", False: "ok"})
    return table.assign(reason=plates["Metadata_Reason"].where(failed, ""))
