"""Which figures each page has, in which order, and what is said below them."""

from typing import Any

import numpy as np
import pandas as pd

from plateline.identity import READOUT
from plateline.report.canvas import file_stem, png, readable
from plateline.report.controls import control_strips
from plateline.report.curves import answer, dose_curves
from plateline.report.heatmaps import colour_limits, heatmap, layout, thumbnail
from plateline.report.sections import CELLS
from plateline.report.tables import count, number, text

# A page of more curves is scrolled past, not read; the table and the Parquet file hold them all.
_MOST_CURVES, _MOST_FURTHER_CURVES, _READOUTS_WITH_CURVES = 24, 12, 4
_ORDER = ["complete", "partial", "inactive"]


def plate_figures(wells: pd.DataFrame, readouts: list[str]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Layout, control wells and heat maps of a plate: the files, and what the page says of each."""
    if not len(wells):
        return {}, {"layout": "", "controls": "", "maps": []}
    files, maps = {"layout.svg": layout(wells)}, []
    if readouts:
        files["controls.svg"] = control_strips(wells, readouts)
    columns = [(READOUT + readout, readable(readout)) for readout in readouts]
    # With one field per well a readout may be the number of cells itself: once is enough.
    if wells[CELLS].notna().any() and not any(wells[column].equals(wells[CELLS]) for column, _ in columns):
        columns.append((CELLS, "cells in the well"))
    for i, (column, name) in enumerate(columns, 1):
        file = f"heatmap-{i}-{file_stem(name)}.svg"
        limits = colour_limits(wells.loc[wells["Metadata_Status"] == "ok", column])
        files[file] = heatmap(wells, column, name=name, limits=limits)
        maps.append(
            {
                "file": file,
                "name": name,
                "low": number(limits[0]),
                "high": number(limits[1]),
                "n": f"{np.isfinite(wells[column]).sum():,}",
            }
        )
    return files, {"layout": "layout.svg", "controls": "controls.svg" if readouts else "", "maps": maps}


def doubt_figure(wells: pd.DataFrame, segmented: pd.DataFrame) -> tuple[dict[str, bytes], dict[str, str]]:
    """Where on a plate an ensemble of segmenters disagrees: the file, and what the page says of it; else nothing.

    Parameters
    ----------
    wells : DataFrame
        The plate's wells.
    segmented : DataFrame
        One row per field: ``Metadata_Well`` and ``disagreement``, NaN where nothing was compared.
    """
    apart = segmented["disagreement"].dropna()
    if not len(wells) or not len(apart):
        return {}, {}
    of_wells = apart.groupby(segmented["Metadata_Well"]).mean()
    shown = wells.assign(disagreement=wells["Metadata_Well"].map(of_wells))
    limits = colour_limits(shown["disagreement"])
    picture = heatmap(shown, "disagreement", name="disagreement", limits=limits)
    spread = {name: number(apart.quantile(share)) for name, share in (("median", 0.5), ("p90", 0.9), ("most", 1.0))}
    ends = {"low": number(limits[0]), "high": number(limits[1])}
    worst = text(segmented.loc[apart.idxmax(), "Metadata_Well"])
    return {"disagreement.svg": picture}, {"n": f"{len(apart):,}", "worst": worst, **spread, **ends}


def plate_cards(
    plates: pd.DataFrame, wells: pd.DataFrame, readouts: list[str]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A card per plate: its numbers and the main readout small, all plates at one colour scale."""
    column = READOUT + readouts[0] if readouts else CELLS
    limits = colour_limits(wells.loc[wells["Metadata_Status"] == "ok", column])
    files, cards = {}, []
    for i, plate in enumerate(plates.to_dict("records"), 1):
        own = wells[wells["Metadata_Plate"] == plate["Metadata_Plate"]]
        file = f"plate-{i}-{file_stem(plate['Metadata_Plate'])}.png" if len(own) else ""
        if file:
            files[file] = png(thumbnail(own, column, limits=limits))
        ok = int((own["Metadata_Status"] == "ok").sum())
        cards.append(
            {
                "name": plate["Metadata_Plate"],
                "batch": text(plate["Metadata_Batch"]),
                "file": file,
                "status": plate["status"],
                "reason": text(plate["reason"]),
                "ok": ok,
                "wells": len(own),
                "cells": count(own[CELLS].sum(min_count=1)),
            }
        )
    return files, {"cards": cards, "low": number(limits[0]), "high": number(limits[1])}


def order_curves(dose: pd.DataFrame, readouts: list[str]) -> pd.DataFrame:
    """Rows as they are read: by readout as declared, complete curves first, then the most potent."""
    place = {name: i for i, name in enumerate(readouts)}
    rank = {name: i for i, name in enumerate(_ORDER)}
    keys = dose.assign(
        _readout=dose["readout"].map(place).fillna(len(place)), _class=dose["curve_class"].map(rank).fillna(len(rank))
    )
    ordered = keys.sort_values(["_readout", "_class", "pEC50"], ascending=[True, True, False], kind="stable")
    return ordered.drop(columns=["_readout", "_class"])


def dose_figures(
    wells: pd.DataFrame, dose: pd.DataFrame, readouts: list[str]
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Small multiples of the first readouts: the files, and how many of how many curves each shows."""
    files, panels = {}, []
    for i, readout in enumerate(readouts[:_READOUTS_WITH_CURVES], 1):
        curves = dose[(dose["readout"] == readout) & dose["curve_class"].isin(_ORDER)]
        shown = curves.head(_MOST_CURVES if i == 1 else _MOST_FURTHER_CURVES)
        if len(shown):
            file = f"curves-{i}-{file_stem(readout)}.svg"
            files[file] = dose_curves(wells, shown, readout)
            panels.append({"file": file, "name": readable(readout), "shown": len(shown), "of": len(curves)})
    return files, panels


def answers(dose: pd.DataFrame) -> list[str]:
    """The EC50 of every row in words."""
    return [answer(fit) for fit in dose.to_dict("records")]
