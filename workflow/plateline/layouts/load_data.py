"""The layout `load_data`: the table of images that CellProfiler and the Cell Painting Gallery read, `load_data.csv`.

Owns the way from its columns (`FileName_`, `PathName_`, `URL_` of each channel, `Metadata_` of each field) to the index
of image planes. It opens no file outside the source folder, fetches nothing, and loses no file that the table names.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import parse_well
from plateline.layouts.planes import UNREADABLE, is_image, left_out_table, tabulate
from plateline.layouts.tiff import read_pages, read_plane

__all__ = ["index", "read_plane"]  # what a layout module must have

# Columns of metadata, in lower case and without Metadata_, the first that the table has.
_COLUMNS = {
    "plate": ["plate", "plateid", "plate_id", "platename", "plate_name", "barcode", "assay_plate_barcode"],
    "well": ["well", "wellid", "well_id", "well_position", "wellname", "well_name"],
    "row": ["row"],
    "column": ["col", "column"],
    "site": ["site", "fieldid", "field", "fov"],
    "timepoint": ["timepoint", "timepointid", "time_point"],
    "z": ["planeid", "z", "zplane", "zslice", "plane"],
    "position_x": ["positionx"],
    "position_y": ["positiony"],
    "pixel_size": ["imageresolutionx"],
}
# Harmony's positions and pixel sizes are metres, and pe2loaddata copies them; larger numbers are of no plain unit.
_LARGEST_METRES = {"position_x": 0.2, "position_y": 0.2, "pixel_size": 2e-5}
# Axis and pages of a file, or why it cannot be read.
_Header = tuple[str, list[dict[str, Any]]] | str


def index(source: Path, *, plate: str, shape: int, file: str, moved_from: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of the image planes that a `load_data.csv` names, and the image files that are not in it.

    Parameters
    ----------
    source : Path
        Folder that holds the images and the table.
    plate : str
        Name of the plate. Where the table names plates, only its rows are taken.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    file : str
        Path of the table inside `source`, CSV or gzipped CSV; ``{plate}`` in it stands for the plate.
    moved_from : str
        Start of the paths or URLs in the table that stands for `source`, where the images were copied; may be empty.

    Returns
    -------
    planes : pd.DataFrame
        One row per plane, as `plateline.layouts.planes.tabulate` has it, and `illum`: path inside the source of the
        illumination function that the table names for the plane, empty where it names none or one outside. The channel
        is what follows ``FileName_`` or ``URL_``. A file that is missing or whose header cannot be used has `status`
        ``unreadable`` and the `reason`. Site is 1, time point and z are 0 where the table does not tell.
    left_out : pd.DataFrame
        `path` and `reason`: files of other plates, and image files beside those of this plate that no row names.

    Raises
    ------
    SourceError
        If the folder or table is missing or cannot be read as lines of equal length; lacks columns of a channel or a
        well; names no row of this plate, a well that is none or a number that is no whole one; names a file outside the
        source or on another machine; or names a plane twice.

    Notes
    -----
    Where a row has a file name and a URL, the file counts. `Frame_` picks a page (from 0); without it the pages of a
    file are its z planes.
    """
    if not source.is_dir():
        msg = f"source {source} of plate {plate} is no folder; correct `source` in the plate sheet"
        raise SourceError(msg)
    home, name = source.resolve(), file.replace("{plate}", plate)
    table = _read_table(home, name, plate)
    columns, channels = _find_columns(list(table), name), _find_channels(list(table), name)
    own = _rows_of(table, columns, plate, name)
    rows: list[dict[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    headers: dict[str, _Header] = {}
    for line, cells in enumerate(table.to_dict("records")):
        where = f"line {line + 2} of {name}"
        for channel, text in _files_of(cells, channels):
            if own[line]:
                path = _inside(home, text, moved_from, where)
                whole = _identify(cells, columns, shape, where) | {"channel": channel, "path": path}
                whole["illum"] = _illumination(cells, channel, home, moved_from)
                rows += _planes_of(home, whole, cells.get(f"Frame_{channel}", ""), headers)
            else:
                left_out.append((text, f"of plate {cells[columns['plate']]!r}"))
    if not rows:
        msg = f"{name} names no image of plate {plate}; expected a file name or URL in the columns of its channels"
        raise SourceError(msg)
    rows = _give_positions(rows)
    left_out += _unnamed(home, rows, [text for text, _ in left_out], moved_from)
    return _with_illumination(tabulate(rows, source), rows), left_out_table(left_out)


def _read_table(home: Path, name: str, plate: str) -> pd.DataFrame:
    """The table as stripped text."""
    file = home / name
    if not _leads_inside(file, home) or not file.is_file():
        msg = f"source {home} of plate {plate} holds no {name!r}; name the table in ingest.load_data.file"
        raise SourceError(msg)
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        lines = [[cell.strip() for cell in line] for line in csv.reader(text, strict=True)]
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        msg = f"{name} in {home} cannot be read ({error}); expected CSV text in UTF-8, or such text gzipped"
        raise SourceError(msg) from error
    header = lines[0] if lines else []
    # A line that is cut off would lose its last files without a word.
    for number, line in enumerate(lines):
        if len(line) not in (len(header), 0):
            msg = f"line {number + 1} of {name} has {len(line)} cells, its header {len(header)}; copy the table anew"
            raise SourceError(msg)
    if twice := sorted({column for column in header if header.count(column) > 1}):
        msg = f"{name} has the columns {twice} more than once; expected each once"
        raise SourceError(msg)
    return pd.DataFrame([line for line in lines[1:] if line], columns=header, dtype=object)


def _find_columns(header: list[str], name: str) -> dict[str, str]:
    """What a column says -> its name in this table."""
    plain = {column.lower().removeprefix("metadata_"): column for column in header}
    found = {word: next((plain[other] for other in others if other in plain), "") for word, others in _COLUMNS.items()}
    if not found["well"] and not (found["row"] and found["column"]):
        msg = f"{name} has no column Metadata_Well, nor Metadata_Row and Metadata_Col, only {header}"
        raise SourceError(msg)
    return {word: column for word, column in found.items() if column}


def _find_channels(header: list[str], name: str) -> list[str]:
    """Channels in the order of the table; illumination functions are none."""
    named = [match[1] for column in header if (match := re.fullmatch(r"(?:FileName|URL)_(.+)", column))]
    channels = [channel for channel in dict.fromkeys(named) if not channel.startswith("Illum")]
    if not channels:
        msg = f"{name} has no column FileName_... or URL_... of a channel, only {header}; expected one per channel"
        raise SourceError(msg)
    return channels


def _rows_of(table: pd.DataFrame, columns: dict[str, str], plate: str, name: str) -> list[bool]:
    """Which rows are of this plate: all where the table names no plates."""
    texts = table[columns["plate"]] if "plate" in columns else [plate] * len(table)
    own = [text == plate for text in texts]
    if not any(own):
        found = sorted(set(texts))[:5]
        near = [text for text in found if text.lstrip("0") == plate.lstrip("0")]
        zeros = " (a spreadsheet may have taken leading zeros)" if near else ""
        msg = f"{name} has no row of plate {plate}, only of {found}{zeros}; correct `plate` in the plate sheet"
        raise SourceError(msg)
    return own


def _files_of(cells: dict[str, str], channels: list[str]) -> Iterator[tuple[str, str]]:
    """Channel and path or URL of each file of a row."""
    for channel in channels:
        if text := _file_of(cells, channel):
            yield channel, text


def _file_of(cells: dict[str, str], channel: str) -> str:
    """Path or URL of a file; empty where the row has none."""
    if name := cells.get(f"FileName_{channel}", ""):
        folder = cells.get(f"PathName_{channel}", "")
        return f"{folder.rstrip('/' + chr(92))}/{name}" if folder.strip("/" + chr(92)) else folder + name
    return cells.get(f"URL_{channel}", "")


def _inside(home: Path, text: str, moved_from: str, where: str) -> str:
    """Path of a file relative to the source folder."""
    rest = text.removeprefix(moved_from)
    # /data/P1 is no start of /data/P10.
    moved = text.startswith(moved_from) and moved_from and (moved_from[-1] in "/\\" or rest[:1] in {"/", "\\"})
    local = rest.lstrip("/\\") if moved else text
    if match := re.match(r"file:(?://(?:localhost)?(?=/))?", local):
        local = unquote(local[match.end() :])
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", local):
        msg = (
            f"{where} names {text!r} on another machine; nothing is fetched: copy the images into {home} and put the "
            "start of the URL that stands for this folder into ingest.load_data.moved_from"
        )
        raise SourceError(msg)
    if not _leads_inside(home / local.replace(chr(92), "/"), home) or re.match(r"[A-Za-z]:", local):
        msg = (
            f"{where} names {text!r}, outside the source folder {home}; correct `source` in the plate sheet or, if the "
            "images were copied here, put the start of the path that stands for it into ingest.load_data.moved_from"
        )
        raise SourceError(msg)
    return (home / local.replace(chr(92), "/")).resolve().relative_to(home).as_posix()


def _leads_inside(file: Path, home: Path) -> bool:
    """Whether a path, its links followed, ends below the source folder."""
    try:
        resolved = file.resolve()
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of links, a name too long
        return False
    return resolved.is_relative_to(home) and resolved != home


def _identify(cells: dict[str, str], columns: dict[str, str], shape: int, where: str) -> dict[str, Any]:
    """Identity of the planes of a row, and what it tells of its field."""
    told = {word: cells[column] for word, column in columns.items()}
    row, column = told.get("row", ""), told.get("column", "")
    well = told.get("well") or (f"R{row}C{column}" if row.isdigit() else row + column)
    try:
        name = parse_well(well, shape)
        numbers = {word: _whole(told[word]) for word in ("site", "timepoint", "z") if told.get(word)}
    except (PlatelineError, ValueError) as error:
        msg = f"{where} cannot be read: {error}; correct the table or `shape` in the plate sheet"
        raise SourceError(msg) from error
    return {
        "Metadata_Well": name,
        "Metadata_Site": numbers.get("site", 1),
        "Metadata_Timepoint": numbers.get("timepoint", 0),
        "z": numbers.get("z", 0),
        **{word: _number(told.get(word, "")) for word in _LARGEST_METRES},
        "stacked": "z" in numbers,
    }


def _whole(text: str) -> int:
    """A whole number, also as `1.0`, which pandas makes of a column with gaps."""
    if not re.fullmatch(r"[0-9]{1,9}(\.0*)?", text):
        msg = f"{text!r} is no whole number"
        raise ValueError(msg)
    return int(text.partition(".")[0])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _illumination(cells: dict[str, str], channel: str, home: Path, moved_from: str) -> str:
    """Path of the illumination function of a channel (IllumDNA of DNA or OrigDNA) inside the source, or nothing."""
    return _inside_or_none(home, _file_of(cells, f"Illum{channel.removeprefix('Orig')}"), moved_from)


def _inside_or_none(home: Path, text: str, moved_from: str) -> str:
    """Path of a file from which no pixel is read; empty where it is not inside the source folder."""
    try:
        return _inside(home, text, moved_from, "") if text else ""
    except SourceError:
        return ""


def _planes_of(home: Path, whole: dict[str, Any], frame: str, headers: dict[str, _Header]) -> list[dict[str, Any]]:
    """Rows of one file of the table: its planes, or a single row that says why it is unreadable."""
    path = whole["path"]
    if path not in headers:
        headers[path] = _header(home / path)
    header = headers[path]
    if isinstance(header, str):
        return [{**whole, **UNREADABLE, "reason": header}]
    axis, pages = header
    if frame:
        chosen = [page for number, page in enumerate(pages) if frame in (str(number), f"{number}.0")]
        if chosen:
            return [{**whole, **chosen[0], "status": "ok", "reason": ""}]
        return [{**whole, **UNREADABLE, "reason": f"the table asks for frame {frame} of {len(pages)}, counted from 0"}]
    if len(pages) > 1 and axis == "z" and whole["stacked"]:
        return [{**whole, **UNREADABLE, "reason": f"{len(pages)} pages along z, which the table already gives"}]
    column = "z" if axis == "z" else "Metadata_Timepoint"
    several = len(pages) > 1
    return [
        {**whole, **page, **({column: number} if several else {}), "status": "ok", "reason": ""}
        for number, page in enumerate(pages)
    ]


def _header(file: Path) -> _Header:
    """Axis and pages of a file, or why it cannot be read."""
    try:
        if not file.is_file():
            return "the table names this file, but there is none"
        return read_pages(file)
    except (ImageError, OSError) as error:
        return str(error)


def _give_positions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stage positions and pixel size in µm where the table plainly has metres; a pixel size of the header stays."""
    plain = {}
    for word, largest in _LARGEST_METRES.items():
        told = np.abs([row[word] for row in rows if not np.isnan(row[word])])
        plain[word] = bool(len(told)) and bool(np.all(told < largest))
    for row in rows:
        um = {word: row[word] * 1e6 if plain[word] else np.nan for word in _LARGEST_METRES}
        row |= {"position_x_um": um["position_x"], "position_y_um": um["position_y"]}
        if np.isnan(row["pixel_size_um"]) and row["status"] == "ok" and um["pixel_size"] > 0:
            row["pixel_size_um"] = um["pixel_size"]
    return rows


def _with_illumination(planes: pd.DataFrame, rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The planes with the illumination function of each."""
    illum = {(row["path"], row["channel"]): row["illum"] for row in rows}
    keys = zip(planes["path"], planes["channel"], strict=True)
    return planes.assign(illum=pd.Series([illum[key] for key in keys], index=planes.index, dtype=object))


def _unnamed(home: Path, rows: list[dict[str, Any]], others: list[str], moved_from: str) -> list[tuple[str, str]]:
    """Image files in the folders of this plate's images that the table names neither for it nor for another."""
    named = {row["path"] for row in rows} | {row["illum"] for row in rows}
    folders = {(home / row["path"]).parent for row in rows}
    files = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if is_image(file.name)]
    found = {file.relative_to(home).as_posix() for file in files} - named
    if found:
        found -= {_inside_or_none(home, text, moved_from) for text in others}
    return [(path, "the table does not name it") for path in found]
