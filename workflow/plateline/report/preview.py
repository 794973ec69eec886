"""The page of a preview: a few fields, every method side by side, and how many objects each found how fast."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.report.canvas import file_stem, png
from plateline.report.gallery import channel_colours, composite, contrast, outline
from plateline.report.pages import render
from plateline.report.tables import Table, count, number, table, text

# Beside each other; more would be too small to judge an outline by.
_ACROSS = 4
_AS_IMAGED = "without outlines"
# A white line must be seen on a white nucleus.
_DIMMED = 0.7
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
    found: list[dict[str, Any]],
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
        One field each: ``Metadata_Well``, ``Metadata_Site``, ``why``, ``title``, ``image`` (C, Y, X) float32 in
        corrected counts, and ``labels``, method -> ``nuclei`` and ``cells`` (Y, X) integers.
    found : list of dict
        One per field and method: ``well``, ``method``, ``seconds``, and what `plateline.preview.count_objects`
        gives.
    channels : list of str
        Names in the order of C.
    size_px : int
        Side of the square cut from each field, where the methods together find most nuclei.
    words : dict
        What the page says of its making: ``plate``, ``method`` (the configured one), ``origin`` (where the pixels
        are from), ``flatfield``, ``pixel_size_um`` (NaN unknown), ``approve`` (whether the run waits), ``refused``
        (method to reason), ``unread`` (field to reason) and ``seconds`` (of the whole preview).
    record : dict
        Kept beside the page as ``preview.json``, for the approval.
    templates : dict of str to str
        Text of the files of ``workflow/report`` by their names; ``preview.html`` is filled in.

    Returns
    -------
    dict of str to bytes
        File name to content.
    """
    squares = [_fullest(shot, size_px) for shot in shots]
    limits = contrast([shot["image"][:, *square] for shot, square in zip(shots, squares, strict=True)])
    hues = channel_colours(channels)
    files, blocks = {"preview.json": json.dumps(record, indent=1).encode()}, []
    for place, shot in enumerate(shots):
        nuclei = {row["method"]: row["nuclei"] for row in found if row["well"] == shot["Metadata_Well"]}
        tiles = []
        for n, (method, picture) in enumerate(_pictures(shot, squares[place], limits, hues)):
            name = _file_name(place, shot["Metadata_Well"], n, method)
            files[name] = png(picture)
            tiles.append({"method": method, "file": name, "nuclei": nuclei.get(method)})
        blocks.append(_block(shot, tiles))
    page = {
        **words,
        "pixel_size": f"{number(words['pixel_size_um'])} µm" if words["pixel_size_um"] > 0 else "not known",
        "blocks": blocks,
        "limits": [
            {"channel": channel, "low": number(low), "high": number(high), "colour": hue}
            for channel, (low, high), hue in zip(channels, limits, hues, strict=True)
        ],
        "side": size_px,
        "summary": _summary(pd.DataFrame(found), words["method"]),
    }
    return {"index.html": render("preview.html", templates, page), **files}


def _file_name(place: int, well: str, number_: int, method: str) -> str:
    """Numbered, so that two methods of like name cannot overwrite each other."""
    return "-".join(filter(None, ["field", str(place + 1), file_stem(well), str(number_), file_stem(method)])) + ".png"


def _block(shot: dict[str, Any], tiles: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page shows of one field: its words, and its pictures in lines."""
    across = min(_ACROSS, len(tiles))
    words = {"well": shot["Metadata_Well"], "site": shot["Metadata_Site"], "why": shot["why"], "title": shot["title"]}
    return words | {"across": across, "lines": [tiles[n : n + across] for n in range(0, len(tiles), across)]}


def _fullest(shot: dict[str, Any], size_px: int) -> tuple[slice, slice]:
    """The square of a field, or what there is of it, in which the methods found most pixels of nuclei.

    Squares half a side apart are compared; of ties the first counts, and without nuclei that in the middle.
    """
    height, width = shot["image"].shape[1:]
    high, wide = min(size_px, height), min(size_px, width)
    found = sum(((labels["nuclei"] > 0) for labels in shot["labels"].values()), np.zeros((height, width), np.int64))
    if not found.any():
        y, x = (height - high) // 2, (width - wide) // 2
        return slice(y, y + high), slice(x, x + wide)
    corners = [(y, x) for y in _starts(height, high) for x in _starts(width, wide)]
    y, x = max(corners, key=lambda corner: found[corner[0] : corner[0] + high, corner[1] : corner[1] + wide].sum())
    return slice(y, y + high), slice(x, x + wide)


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin that lie half a side apart; the last ends at the edge."""
    return [*range(0, length - side, max(1, side // 2)), length - side]


def _pictures(
    shot: dict[str, Any], square: tuple[slice, slice], limits: npt.NDArray[np.float64], hues: list[str]
) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """The square as imaged, then dimmed and with the outlines of each method: (Y, X, 3) at twice the size."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    bare = composite(np.clip((shot["image"][:, *square] - low) / (high - low), 0, 1), hues)
    nothing = np.zeros(bare.shape[:2], np.int32)
    yield _AS_IMAGED, (outline(bare, nothing, nothing) * 255).astype(np.uint8)
    for method, labels in shot["labels"].items():
        outlined = outline(_DIMMED * bare, labels["nuclei"][square], labels["cells"][square])
        yield method, (outlined * 255).astype(np.uint8)


def _summary(found: pd.DataFrame, configured: str) -> Table:
    """A row per method: objects of all fields, medians over fields."""
    groups = found.groupby("method", sort=False)
    rows = groups[["nuclei", "border", "cells"]].sum().join(groups[["nucleus_px", "cell_px", "seconds"]].median())
    rows = rows.reset_index()
    rows["method"] = [f"{name} (configured)" if name == configured else name for name in rows["method"]]
    return table(rows, _SUMMARY)
