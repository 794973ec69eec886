"""The layout `pattern`: any folder of TIFF files whose names a regular expression can read.

Owns the way from file names and TIFF headers to the index of image planes, and the reading of one plane. It reads no
pixels for the index, follows no link out of the source folder, and loses no image file: each is indexed or left out
with a reason.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import parse_well
from plateline.layouts.planes import UNREADABLE, is_image, left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_pages, read_plane

__all__ = ["index", "read_plane"]  # what a layout module must have


def index(source: Path, *, plate: str, shape: int, regex: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes under a folder, and the image files that are not in it.

    Parameters
    ----------
    source : Path
        Folder of one or several plates, searched with its subfolders.
    plate : str
        Name of the plate; with a group `plate` in `regex`, only its files are indexed.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    regex : str
        Matched against the whole path relative to `source`, with ``/`` between folders. Named groups: `channel`, and
        `well` or `row` and `column`; optional `site`, `timepoint`, `z` (whole numbers, kept as the name has them) and
        `plate`. Other groups are ignored.

    Returns
    -------
    planes : pd.DataFrame
        One row per plane, as `plateline.layouts.planes.tabulate` has it. `Metadata_Site`
        is 1, `Metadata_Timepoint` and `z` are 0 where the name does not tell. `pixel_size_um` is NaN and `full_scale`
        (largest value of the camera) the largest of the dtype where no tag is plain about it, NaN for floats. A file
        whose header cannot be used is one row with `status` ``unreadable``, the `reason`, height and width 0.
    left_out : pd.DataFrame
        `path` and `reason` of every other image file, and of links to folders, which are not followed; sorted.

    Raises
    ------
    SourceError
        If the folder is missing, the expression is invalid, lacks a group or matches no file of the plate, a name
        gives no well of the plate or no whole number, or two files are the same plane.

    Notes
    -----
    The pages of a file are its z planes, unless its OME, ImageJ or tifffile header names the axis time. Pages that are
    channels, or that repeat an axis the name already gives, make the file unreadable.
    """
    pattern = _compile(regex)
    matched, left_out = _match_files(source, pattern, plate)
    rows = [row for path, match in matched for row in _planes_of(source, path, match, shape)]
    return tabulate(rows, source), left_out_table(left_out)


def _compile(regex: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        msg = f"regex {regex!r} is not a regular expression: {error}; correct ingest.pattern.regex"
        raise SourceError(msg) from error
    groups = set(pattern.groupindex)
    if "channel" not in groups or not ("well" in groups or {"row", "column"} <= groups):
        msg = (
            f"regex {regex!r} names the groups {sorted(groups)}; expected (?P<channel>...) and either (?P<well>...) "
            "or (?P<row>...) and (?P<column>...)"
        )
        raise SourceError(msg)
    return pattern


def _match_files(
    source: Path, pattern: re.Pattern[str], plate: str
) -> tuple[list[tuple[str, re.Match[str]]], list[tuple[str, str]]]:
    """Files that the expression matches for this plate, and the (path, reason) of the images left out."""
    paths, left_out = list_files(source, plate)
    matches = [(path, pattern.fullmatch(path)) for path in paths]
    matched = [(path, match) for path, match in matches if match and match.groupdict().get("plate", plate) == plate]
    chosen = {path for path, _ in matched}
    for path, match in matches:
        if path not in chosen and (match or is_image(path)):
            left_out.append((path, f"of plate {match['plate']!r}" if match else "the regex does not match"))
    if not matched:
        _refuse_no_match(source, pattern, plate, left_out)
    return matched, left_out


def _refuse_no_match(source: Path, pattern: re.Pattern[str], plate: str, left_out: list[tuple[str, str]]) -> None:
    example = f", for example {min(left_out)[0]!r} ({min(left_out)[1]})" if left_out else ""
    msg = (
        f"regex {pattern.pattern!r} matches no file of plate {plate} in {source}, which holds {len(left_out)} image "
        f"files{example}; it must match the whole path relative to the source"
    )
    raise SourceError(msg)


def _planes_of(source: Path, path: str, match: re.Match[str], shape: int) -> list[dict[str, Any]]:
    """Rows of one file: its planes, or a single row that says why it is unreadable."""
    names = match.groupdict()
    whole = identify(names, path, shape)
    try:
        axis, pages = read_pages(source / path)
        if len(pages) > 1 and names.get(axis) is not None:
            msg = f"{len(pages)} pages along {axis}, which the name already gives; expected one page"
            raise ImageError(msg)
    except ImageError as error:
        return [{**whole, **UNREADABLE, "reason": str(error)}]
    column = "z" if axis == "z" else "Metadata_Timepoint"
    several = len(pages) > 1
    return [
        {**whole, **page, **({column: i} if several else {}), "status": "ok", "reason": ""}
        for i, page in enumerate(pages)
    ]


def identify(names: dict[str, str | None], path: str, shape: int) -> dict[str, Any]:
    """Identity of the planes of a file from the groups of its name: `well`, or `row` and `column`, and numbers.

    Raises
    ------
    SourceError
        If they give no well of the plate, or no whole number.
    """
    row, column = names.get("row") or "", names.get("column") or ""
    well = names.get("well") or (f"R{row}C{column}" if row.isdigit() else row + column)
    try:
        name = parse_well(well, shape)
        numbers = {key: int(text) for key in ("site", "timepoint", "z") if (text := names.get(key)) is not None}
    except (PlatelineError, ValueError) as error:
        msg = f"the name of {path} cannot be read: {error}; correct the regex or `shape` in the plate sheet"
        raise SourceError(msg) from error
    return {
        "Metadata_Well": name,
        "Metadata_Site": numbers.get("site", 1),
        "Metadata_Timepoint": numbers.get("timepoint", 0),
        "z": numbers.get("z", 0),
        "channel": names.get("channel") or "",
        "path": path,
    }
