"""Planes whose files an index of the microscope names: the one index of a source folder, its files and their headers.

Owns what is refused in every layout with an index: no index, several of which none was picked, a file outside the
folder of its index, a plate of another shape. No file is opened that the listing of the source folder does not have.
"""

import math
import re
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import SHAPES, parse_well
from plateline.layouts.planes import UNREADABLE, is_image
from plateline.layouts.tiff import read_pages

# Units that an index writes beside a number.
MICROMETRES = {"m": 1e6, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3}
MILLISECONDS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3}
NANOMETRES = {unit: 1e3 * factor for unit, factor in MICROMETRES.items()}


def pick_one(choices: dict[str, str], wanted: str, *, what: str, key: str, source: Path) -> str:
    """The choice that an option picks, or the only one.

    Parameters
    ----------
    choices : dict of str to str
        Name that a person would give -> what it stands for.
    wanted : str
        A name, or its last part where that is enough; empty for the only choice.
    what, key : str
        What is chosen, and the config key of `wanted`, for the message.
    source : Path
        For the message.

    Raises
    ------
    SourceError
        If none is picked of several, or the name is that of none or of several.
    """
    fitting = [name for name in choices if wanted in ("", name)]
    fitting = fitting or [name for name in choices if name.rpartition("/")[2] == wanted]
    if len(fitting) != 1:
        names = ", ".join(repr(name) for name in sorted(choices))
        msg = f"{source} holds {len(choices)} {what}: {names}; {key} is {wanted!r} and must name one of them"
        raise SourceError(msg)
    return choices[fitting[0]]


def describe_planes(
    entries: list[dict[str, Any]], *, index: str, paths: list[str], source: Path
) -> list[dict[str, Any]]:
    """Rows of `plateline.layouts.planes.tabulate` from the entries of an index and the headers of their files.

    Parameters
    ----------
    entries : list of dict
        One per plane: its identity; `path`, the file as the index writes it; `reason`, why the microscope itself calls
        the plane bad, else empty; and facts, of which `pixel_size_um` and `full_scale` stand above the header's where
        they are known.
    index : str
        Path of the index inside the source; the files are named from its folder.
    paths : list of str
        All files of the source.
    source : Path

    Returns
    -------
    list of dict
        As many, in the same order. `status` is ``unreadable`` with a `reason` where a file is missing, has a bad header
        or several pages, or is named for several planes. Names may differ from the files' in case and in the form of
        their accents, as they do after a copy from Windows or a Mac.

    Raises
    ------
    SourceError
        If a file is named outside the folder of the index.
    """
    exact, loose = set(paths), Counter(map(_loose, paths))
    by_loose = {_loose(path): path for path in paths}
    rows = []
    for entry in entries:
        path = inside(entry["path"], index, source)
        if path not in exact and loose[_loose(path)] == 1:
            path = by_loose[_loose(path)]
        missing = "" if path in exact else f"{path or 'no file'} is named by {index} and is not there"
        rows.append({**entry, "path": path, "reason": entry["reason"] or missing})
    uses = Counter(row["path"] for row in rows)
    return [_describe(row, uses[row["path"]], source) for row in rows]


def inside(text: str, index: str, source: Path) -> str:
    """Path inside the source of a file that an index names, ``/`` between folders; empty for no name.

    Raises
    ------
    SourceError
        If it is outside the folder of the index.
    """
    name = text.strip().replace("\\", "/")
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and not parts:
            name = "/"
        elif part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if name.startswith("/") or re.match(r"[A-Za-z]:|\w+://", name):
        msg = (
            f"{index} in {source} names the file {text!r}, outside its own folder; expected a path relative to the "
            "index. Export the plate again with its images beside the index"
        )
        raise SourceError(msg)
    return PurePosixPath(index).parent.joinpath(*parts).as_posix() if parts else ""


def _loose(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _describe(row: dict[str, Any], uses: int, source: Path) -> dict[str, Any]:
    """Row of one plane with what the header of its file gives, or with why it is unreadable."""
    try:
        if row["reason"]:
            raise ImageError(row["reason"])
        if uses > 1:
            msg = f"the index names the file for {uses} planes; expected one file per plane"
            raise ImageError(msg)
        _, pages = read_pages(source / row["path"])
        if len(pages) != 1:
            msg = f"the file holds {len(pages)} pages; the index names it for one plane"
            raise ImageError(msg)
    except ImageError as error:
        return {**row, **UNREADABLE, "reason": str(error)}
    page = pages[0]
    told, size = row.get("full_scale", np.nan), row.get("pixel_size_um", np.nan)
    return {
        **row,
        **page,
        "pixel_size_um": page["pixel_size_um"] if math.isnan(size) else size,
        "full_scale": told if 255 <= told < page["full_scale"] else page["full_scale"],
        "status": "ok",
    }


def not_named(paths: list[str], known: set[str], index: str, others: list[str]) -> list[tuple[str, str]]:
    """(path, reason) of the image files that the index does not name.

    Parameters
    ----------
    paths, known
        All files of the source, and those that the index names.
    index, others
        The index that was read, and those that were not.
    """
    folders = {PurePosixPath(other).parent: other for other in [*others, index]}
    loose = {_loose(path) for path in known}
    left_out = []
    for path in paths:
        if is_image(path) and _loose(path) not in loose:
            owner = next((folders[folder] for folder in PurePosixPath(path).parents if folder in folders), index)
            left_out.append((path, f"{index} does not name it" if owner == index else f"of {owner}, not picked"))
    return left_out


def name_channels(entries: list[dict[str, Any]], mark: str) -> list[dict[str, Any]]:
    """Entries with their `channel`: the `channel_name`, with the microscope's `number` where two share it or have none.

    Parameters
    ----------
    entries : list of dict
        With `channel_name` and `number`, which is taken out.
    mark : str
        Stands before the number.
    """
    numbers: dict[str, set[int]] = {}
    for entry in entries:
        numbers.setdefault(entry["channel_name"], set()).add(entry["number"])
    return [
        {key: value for key, value in entry.items() if key != "number"}
        | {"channel": _channel(entry["channel_name"], f"{mark}{entry['number']}", len(numbers[entry["channel_name"]]))}
        for entry in entries
    ]


def _channel(name: str, number: str, sharing: int) -> str:
    return name if name and sharing == 1 else f"{name} {number}".strip()


def place(well: str, shape: int, index: str) -> str:
    """Canonical name of a well of the index.

    Raises
    ------
    SourceError
        If the plate of the sheet has no such well.
    """
    try:
        return parse_well(well, shape)
    except PlatelineError as error:
        msg = f"{index}: {error}; correct `shape` in the plate sheet"
        raise SourceError(msg) from error


def check_shape(rows: int | None, columns: int | None, shape: int, index: str) -> None:
    """Compare the plate that the index declares with the sheet; plates of no usual shape, as slides, pass.

    Raises
    ------
    SourceError
        If the index declares a plate of another shape.
    """
    declared = {size: n for n, size in SHAPES.items()}.get((rows or 0, columns or 0), shape)
    if declared != shape:
        msg = (
            f"{index} declares a plate of {rows} x {columns} = {declared} wells; the plate sheet says {shape}; correct "
            "`shape` in the plate sheet"
        )
        raise SourceError(msg)


def whole(text: str | None) -> int | None:
    """Whole number from 0 that a text is, None for any other text."""
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def number(text: str | None, unit: str = "", units: dict[str, float] | None = None) -> float:
    """Finite number that a text is, in the unit that `units` has as 1; NaN for any other text and an unknown unit."""
    try:
        value = float(text or "nan") * (units or {"": 1.0}).get(unit.strip(), np.nan)
    except ValueError:
        return np.nan
    return value if math.isfinite(value) else np.nan


def positive(value: float) -> float:
    """The value, NaN where it is not above 0: microscopes write 0 for what they do not know."""
    return value if value > 0 else np.nan


def side(x: float, y: float) -> float:
    """Side of a square pixel; NaN where its two sides differ or one is unknown."""
    return x if x > 0 and abs(y - x) <= 1e-3 * x else np.nan
