"""The page of a preview: a few fields, every method side by side, and how many objects each found how fast."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.report.canvas import file_stem, png
from plateline.report.gallery import channel_colours, composite, contrast, cut_centre, outline
from plateline.report.pages import render
from plateline.report.tables import count, number, table, text

# Beside each other; more would be too small to judge an outline by.
_ACROSS = 4
_AS_IMAGED = "without outlines"
_SUMMARY = {
    "method": ("method", text),
    "nuclei": ("nuclei", count),
    "touching the edge": ("border", count),
    "median nucleus, px": ("nucleus_px", number),
    "cells": ("cells", count),
    "median cell, px": ("cell_px", number),
    "seconds a field": ("seconds", number),
}


def preview_page(
    shots: list[dict[str, Any]],
    found: pd.DataFrame,
    *,
    channels: list[str],
    size_px: int,
    words: dict[str, Any],
    record: dict[str, Any],
    templates: dict[str, str],
) -> dict[str, bytes]:
    """The page of a preview and its pictures.

    Parameters
    ----------
    shots : list of dict
        One field each: ``well``, ``site``, ``why``, ``title``, ``image`` (C, Y, X) float32 in corrected counts, and
        ``labels``, method -> ``nuclei`` and ``cells`` (Y, X) integers.
    found : DataFrame
        One row per field and method: ``well``, ``method``, ``seconds``, and what `plateline.preview.count_objects`
        gives.
    channels : list of str
        Names in the order of C.
    size_px : int
        Side of the square cut from the middle of each field.
    words : dict
        What the page says of its making: ``plate``, ``method`` (the configured one), ``origin`` (where the pixels
        are from), ``flatfield``, ``pixel_size``, ``approve`` (whether the run waits), ``refused`` (method to reason),
        ``unread`` (field to reason) and ``seconds`` (of the whole preview).
    record : dict
        Kept beside the page as ``preview.json``, for the approval.
    templates : dict of str to str
        Text of the files of ``workflow/report`` by their names; ``preview.html`` is filled in.

    Returns
    -------
    dict of str to bytes
        File name to content.
    """
    limits = contrast([cut_centre(shot["image"], size_px) for shot in shots])
    hues = channel_colours(channels)
    files: dict[str, bytes] = {}
    blocks = []
    for number_, shot in enumerate(shots):
        tiles = []
        for place, (method, picture) in enumerate(_pictures(shot, limits, hues, size_px)):
            name = "-".join(filter(None, [f"field-{number_ + 1}", file_stem(shot["well"]), str(place), file_stem(method)]))
            files[f"{name}.png"] = png(picture)
            tiles.append({"method": method, "file": f"{name}.png", "said": _said(found, shot["well"], method)})
        across = min(_ACROSS, len(tiles))
        lines = [tiles[start : start + across] for start in range(0, len(tiles), across)]
        blocks.append({key: shot[key] for key in ("well", "site", "why", "title")} | {"lines": lines, "across": across})
    spans = [
        {"channel": channel, "low": number(low), "high": number(high), "colour": hue}
        for channel, (low, high), hue in zip(channels, limits, hues, strict=True)
    ]
    page = words | {"blocks": blocks, "limits": spans, "side": size_px, "summary": _summary(found, words["method"])}
    files["preview.json"] = json.dumps(record, indent=1, sort_keys=True).encode()
    return {"index.html": render("preview.html", templates, page), **files}


def _pictures(
    shot: dict[str, Any], limits: npt.NDArray[np.float64], hues: list[str], size_px: int
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The field as imaged, then with the outlines of each method: (Y, X, 3) at twice the size."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    image = np.nan_to_num(cut_centre(shot["image"], size_px))
    bare = composite(np.clip((image - low) / (high - low), 0, 1), hues)
    nothing = np.zeros(bare.shape[:2], np.int32)
    for method, labels in {_AS_IMAGED: {"nuclei": nothing, "cells": nothing}, **shot["labels"]}.items():
        cut = (cut_centre(labels[compartment], size_px) for compartment in ("nuclei", "cells"))
        yield method, (outline(bare, *cut) * 255).astype(np.uint8)


def _said(found: pd.DataFrame, well: str, method: str) -> str:
    """What stands below a picture."""
    rows = found[(found["well"] == well) & (found["method"] == method)]
    return "" if rows.empty else f"{count(rows['nuclei'].iloc[0])} nuclei, {number(rows['seconds'].iloc[0])} s"


def _summary(found: pd.DataFrame, configured: str):
    """A row per method: objects of all fields, medians over fields."""
    sums = found.groupby("method", sort=False)[["nuclei", "border", "cells"]].sum()
    medians = found.groupby("method", sort=False)[["nucleus_px", "cell_px", "seconds"]].median()
    rows = sums.join(medians).reset_index()
    rows["method"] += np.where(rows["method"] == configured, " (configured)", "")
    return table(rows, _SUMMARY)
