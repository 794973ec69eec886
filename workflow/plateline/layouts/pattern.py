"""The layout `pattern`: any folder of TIFF files whose names a regular expression can read.

Owns the way from file names and TIFF headers to the index of image planes, and the reading of one plane. It reads no
pixels for the index, follows no link out of the source folder, and loses no image file: each is indexed or left out
with a reason.
"""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import tifffile

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import parse_well

PLANE = ["Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "z", "channel"]
COLUMNS = [*PLANE, "path", "page", "height", "width", "dtype", "pixel_size_um", "full_scale", "status", "reason"]

# What counts as an image when the expression does not match it; other files (logs, tables) are nobody's loss.
_IMAGES = {
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".jp2",
    ".flex",
    ".stk",
    ".c01",
    ".dib",
    ".nd2",
    ".czi",
    ".lif",
}
_MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "\\u00b5m": 1.0, "nm": 1e-3, "mm": 1e3}
# Larger "pixels" are a resolution for printing: 72 dots an inch are 353 µm, 1200 are 21 µm.
_LARGEST_PIXEL_UM = 20.0


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
        One row per plane, sorted by well (as text), site, timepoint, z and channel; columns `COLUMNS`. `Metadata_Site`
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
    planes = pd.DataFrame(rows, columns=COLUMNS).sort_values(PLANE, kind="stable", ignore_index=True)
    _refuse_repeats(planes, source)
    return planes, pd.DataFrame(sorted(left_out), columns=["path", "reason"], dtype=object)


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels of one plane.

    Parameters
    ----------
    source, path, page
        Folder, path and page as in the table of `index`.

    Returns
    -------
    array of shape (Y, X)
        In the dtype of the file.

    Raises
    ------
    ImageError
        If the path leaves the folder or the file is missing, empty, truncated, not decodable, without this page, or
        this page is not one 2-D plane. The message holds the path and the reason.
    """
    file = source / path
    if not file.resolve().is_relative_to(source.resolve()):
        msg = f"{path} leads outside the source folder {source}; images are read only from inside it"
        raise ImageError(msg)
    try:
        with tifffile.TiffFile(file) as tif:
            return _decode(tif, page)
    except MemoryError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever a broken file leads them to
        msg = f"cannot read page {page} of {path} in {source}: {_reason(error)}; export the image again"
        raise ImageError(msg) from error


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
    if not source.is_dir():
        msg = f"source {source} of plate {plate} is no folder; correct `source` in the plate sheet"
        raise SourceError(msg)
    paths, left_out = _list_files(source)
    matches = [(path, pattern.fullmatch(path)) for path in paths]
    matched = [(path, match) for path, match in matches if match and match.groupdict().get("plate", plate) == plate]
    chosen = {path for path, _ in matched}
    for path, match in matches:
        if path not in chosen and (match or _is_image(path)):
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


def _list_files(source: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Relative posix paths of all regular files, sorted, and links that lead out, to nothing or to a folder."""
    home = source.resolve()
    files, left_out = [], []
    for file in source.rglob("*"):
        path = file.relative_to(source).as_posix()
        if file.is_symlink() and (reason := _refuse_link(file, home)):
            if _is_image(path) or file.is_dir():
                left_out.append((path, reason))
        elif file.is_file():
            files.append(path)
    return sorted(files), left_out


def _refuse_link(file: Path, home: Path) -> str:
    """Why a link is not read; empty for a link to a file inside the source."""
    if file.is_dir():
        return "a link to a folder is not followed"
    if not file.is_file():
        return "the link leads to no file"
    return "" if file.resolve().is_relative_to(home) else "the link leads outside the source folder"


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in _IMAGES


def _planes_of(source: Path, path: str, match: re.Match[str], shape: int) -> list[dict[str, Any]]:
    """Rows of one file: its planes, or a single row that says why it is unreadable."""
    names = match.groupdict()
    whole = _identify(names, path, shape)
    try:
        with tifffile.TiffFile(source / path) as tif:
            axis, pages = _read_header(tif)
        if len(pages) > 1:
            if names.get(axis) is not None:
                msg = f"{len(pages)} pages along {axis}, which the name already gives; expected one page"
                raise ImageError(msg)
            column = "z" if axis == "z" else "Metadata_Timepoint"
            pages = [{**page, column: i} for i, page in enumerate(pages)]
    except MemoryError:
        raise
    except Exception as error:  # tifffile raises whatever a broken header leads it to
        empty = {"page": 0, "height": 0, "width": 0, "dtype": "", "pixel_size_um": np.nan, "full_scale": np.nan}
        return [{**whole, **empty, "status": "unreadable", "reason": _reason(error)}]
    return [{**whole, **page, "status": "ok", "reason": ""} for page in pages]


def _identify(names: dict[str, str | None], path: str, shape: int) -> dict[str, Any]:
    """Identity of the planes of a file from the groups of its name."""
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


def _refuse_repeats(planes: pd.DataFrame, source: Path) -> None:
    repeated = planes[planes.duplicated(PLANE, keep=False)]
    if len(repeated):
        first, second = repeated.iloc[0], repeated.iloc[1]
        plane = ", ".join(f"{column.removeprefix('Metadata_')} {first[column]}" for column in PLANE)
        msg = (
            f"{first['path']} and {second['path']} in {source} are both {plane}; expected one file per plane: let the "
            "regex read what tells them apart (site, timepoint, z) or match only one of them"
        )
        raise SourceError(msg)


def _read_header(tif: tifffile.TiffFile) -> tuple[str, list[dict[str, Any]]]:
    """Axis of the pages (`z` or `timepoint`) and, per full-size page, the columns that its header gives."""
    # Overviews of a pyramid and thumbnails are flagged as reduced; they are no planes.
    pages = [page for page in cast("list[tifffile.TiffPage]", tif.pages) if not page.is_reduced]
    sizes = _declared_sizes(tif)
    declared = int(np.prod(list(sizes.values())))
    if sizes and declared != len(pages) and not (tif.is_ome and len(pages) == 1):  # an OME set may span many files
        msg = f"the header declares {declared} planes, the file holds {len(pages)} pages"
        raise ImageError(msg)
    stacked = [axis for axis, size in sizes.items() if size > 1] if len(pages) > 1 else []
    if len(stacked) > 1 or "channel" in stacked:
        msg = f"{len(pages)} pages along {' and '.join(stacked)}; expected one channel per file, pages along z or time"
        raise ImageError(msg)
    # Bits that are no whole bytes are the camera's own.
    bits = int(_ome_pixels(tif).get("SignificantBits", 0)) or pages[0].bitspersample * bool(pages[0].bitspersample % 8)
    pixel_size_um = _pixel_size_um(tif)
    return (stacked or ["z"])[0], [_describe(page, pixel_size_um, bits) for page in pages]


def _declared_sizes(tif: tifffile.TiffFile) -> dict[str, int]:
    """Planes along each named axis as the OME, ImageJ or tifffile header has it; empty without such a header."""
    if tif.is_ome:
        pixels = _ome_pixels(tif)
        return {axis: int(pixels.get(f"Size{axis[0].upper()}", 1)) for axis in ("z", "timepoint", "channel")}
    if tif.is_imagej:
        ij = tif.imagej_metadata or {}
        sizes = {"z": ij.get("slices", 1), "timepoint": ij.get("frames", 1), "channel": ij.get("channels", 1)}
        return sizes if "images" in ij else {}
    shaped = (tif.shaped_metadata or [{}])[0]
    words = {"Z": "z", "T": "timepoint", "C": "channel"}
    named = zip(shaped.get("axes", ""), shaped.get("shape", ()), strict=False)
    return {words[axis]: size for axis, size in named if axis in words}


def _ome_pixels(tif: tifffile.TiffFile) -> dict[str, str]:
    """Attributes of the first ``<Pixels>`` element, if any; by expression, so that no XML entity is ever expanded."""
    element = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>", tif.ome_metadata or "")
    pairs = re.findall(r"""(\w+)\s*=\s*("[^"]*"|'[^']*')""", element[1] if element else "")
    return {name: text[1:-1] for name, text in pairs}


def _describe(page: Any, pixel_size_um: float, bits: int) -> dict[str, Any]:
    if len(page.shape) != 2:
        msg = f"page {page.index} has shape {page.shape}; expected one 2-D plane (Y, X) of a single sample"
        raise ImageError(msg)
    return {
        "page": int(page.index),
        "height": int(page.shape[0]),
        "width": int(page.shape[1]),
        "dtype": str(page.dtype),
        "pixel_size_um": pixel_size_um,
        "full_scale": _full_scale(page, bits),
    }


def _full_scale(page: Any, bits: int) -> float:
    """Largest value of the camera, of its bits where the header tells them (0: it does not), else of the dtype."""
    dtype = np.dtype(page.dtype)
    if dtype.kind not in "iu":
        return np.nan
    largest = int(np.iinfo(dtype).max)
    told = page.tags.valueof("MaxSampleValue")
    # Some writers put the largest pixel of this one image there; 255, 4095 or 65535 is a camera.
    if isinstance(told, int) and 255 <= told < largest and told & (told + 1) == 0:
        return float(told)
    return float(min(largest, 2**bits - 1)) if bits else float(largest)


def _pixel_size_um(tif: tifffile.TiffFile) -> float:
    """Side of a square pixel in µm; NaN unless one header gives it plainly for both axes."""
    y, x = _ome_sides_um(tif) if tif.is_ome else _tag_sides_um(tif)
    return x if 0 < x <= _LARGEST_PIXEL_UM and abs(y - x) <= 1e-3 * x else np.nan


def _ome_sides_um(tif: tifffile.TiffFile) -> list[float]:
    pixels = _ome_pixels(tif)
    sides = [(pixels.get(f"PhysicalSize{a}", "nan"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "YX"]
    return [float(size) * _MICROMETRES.get(unit, np.nan) for size, unit in sides]


def _tag_sides_um(tif: tifffile.TiffFile) -> list[float]:
    """Sides from the resolution tags, whose unit is ImageJ's where ImageJ wrote the file."""
    tags = cast(tifffile.TiffPage, tif.pages[0]).tags
    if tif.is_imagej:
        unit = _MICROMETRES.get(str((tif.imagej_metadata or {}).get("unit", "")).lower(), np.nan)
    else:
        unit = {2: 25400.0, 3: 10000.0}.get(int(tags.valueof("ResolutionUnit", default=1)), np.nan)
    resolutions = [tags.valueof(f"{a}Resolution", default=(0, 1)) for a in "YX"]
    return [unit * below / above if above else np.nan for above, below in resolutions]


def _decode(tif: tifffile.TiffFile, number: int) -> npt.NDArray[Any]:
    if not 0 <= number < len(tif.pages):
        msg = f"the file holds {len(tif.pages)} pages, unlike its index"
        raise ImageError(msg)
    page: Any = tif.pages[number]
    if len(page.shape) != 2:
        msg = f"its shape is {page.shape}; expected one 2-D plane (Y, X)"
        raise ImageError(msg)
    # tifffile fills what lies behind the end of the file with zeros; that would read as a dark corner.
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > tif.filehandle.size or not all(page.databytecounts):
        msg = f"the file is truncated or was never finished: its pixels end at byte {end} of {tif.filehandle.size}"
        raise ImageError(msg)
    return page.asarray()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
