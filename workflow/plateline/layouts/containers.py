"""Files that hold many images each and need a reader library of their own: what `nd2`, `czi` and `lif` share.

Owns the library (loaded when a layout asks for it, else nobody needs it), the way from the names of a file and of the
images in it to wells and sites, and what is refused. A module of one format describes the planes of a file and reads
one; it sees no path but that file.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ConfigError, ImageError, SourceError
from plateline.layouts import named
from plateline.layouts.pattern import identify
from plateline.layouts.planes import UNREADABLE, is_image, left_out_table, list_files, tabulate

# (file) -> planes in the order of their `page`: each `image` (name), `tile`, `Metadata_Timepoint`, `z`, `number` and
# `channel_name`, `page`, `height`, `width`, `dtype`, `reason`, and facts.
Describe = Callable[[Path], list[dict[str, Any]]]
LeftOut = list[tuple[str, str]]


def load_reader(library: str, layout: str) -> Any:
    """The library that reads a format.

    Raises
    ------
    ConfigError
        If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        msg = (
            f"layout {layout} reads with the library {library}, which cannot be loaded ({error}); install it beside "
            f"Plateline: pip install {library}"
        )
        raise ConfigError(msg) from error


def index_files(
    source: Path, suffix: str, describe: Describe, *, plate: str, shape: int, regex: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes in the files of one format under a folder, and what is not in it.

    Parameters
    ----------
    source : Path
        Folder of one or several plates, searched with its subfolders.
    suffix : str
        Of the files, lower case: ``.nd2``.
    describe : callable
        Planes of a file; may raise whatever a broken file leads its library to.
    plate : str
        Name of the plate; with a group `plate` in `regex`, only its images are indexed.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    regex : str
        Matched against the path of a file inside the source, ``/``, and the name of an image in it. Named groups:
        `well`, or `row` and `column`; optional `site` and `plate`. Without `site`, the images of a well are numbered
        from 1 in the order of paths and files.

    Returns
    -------
    planes, left_out : pd.DataFrame
        As in every layout. Files that cannot be opened, images whose name does not fit, and image files of other
        formats are left out with a reason.

    Raises
    ------
    SourceError
        If the folder is missing, the expression is invalid or lacks a group, no image fits, or two planes are the same.
    """
    pattern = _compile(regex, suffix[1:])
    paths, left_out = list_files(source, plate)
    rows: list[dict[str, Any]] = []
    for path in filter(is_image, paths):
        if Path(path).suffix.lower() != suffix:
            left_out.append((path, f"no {suffix} file"))
            continue
        try:
            planes = describe(source / path)
        except MemoryError:
            raise
        except Exception as error:  # every reader has its own ways to fail on a broken file
            left_out.append((path, f"it cannot be opened: {_reason(error)}"))
            continue
        rows += _place(planes, path, pattern, plate, shape, left_out)
    if not rows:
        example = f", for example {min(left_out)[0]!r} ({min(left_out)[1]})" if left_out else ""
        msg = f"regex {regex!r} matches no image of plate {plate} in the {suffix} files of {source}{example}"
        raise SourceError(msg)
    return tabulate(named.name_channels(_number_sites(rows), "c"), source), left_out_table(left_out)


def _compile(regex: str, layout: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        msg = f"regex {regex!r} is not a regular expression: {error}; correct ingest.{layout}.regex"
        raise SourceError(msg) from error
    if "well" not in pattern.groupindex and not {"row", "column"} <= set(pattern.groupindex):
        msg = (
            f"regex {regex!r} names the groups {sorted(pattern.groupindex)}; expected (?P<well>...), or (?P<row>...) "
            f"and (?P<column>...): correct ingest.{layout}.regex"
        )
        raise SourceError(msg)
    return pattern


def _place(
    planes: list[dict[str, Any]], path: str, pattern: re.Pattern[str], plate: str, shape: int, left_out: LeftOut
) -> list[dict[str, Any]]:
    """Rows of the planes of a file whose images have a well; the other images are left out."""
    rows, others = [], {}
    for plane in planes:
        name = f"{path}/{plane['image']}" if plane["image"] else path
        match = pattern.fullmatch(name)
        groups = match.groupdict() if match else {}
        if not match or (groups.get("plate") or plate) != plate:
            others[name] = f"of plate {groups['plate']!r}" if match else "the regex does not match"
            continue
        given = identify({key: groups.get(key) for key in ("well", "row", "column", "site")}, name, shape)
        state: dict[str, Any] = {"status": "ok", "reason": ""}
        if plane["reason"]:
            state = {**UNREADABLE, "page": plane["page"], "reason": plane["reason"]}
        site = given["Metadata_Site"] if groups.get("site") else 0
        rows.append({**plane, **state, "path": path, "Metadata_Well": given["Metadata_Well"], "Metadata_Site": site})
    left_out += others.items()
    return rows


def _number_sites(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with a site each: the number of the image among those of its well, where its name gives none."""
    seen: dict[str, dict[tuple[Any, ...], int]] = {}
    numbered = []
    for row in rows:
        image = row.pop("image"), row.pop("tile")
        images = seen.setdefault(row["Metadata_Well"], {})
        order = images.setdefault((row["path"], *image), len(images) + 1)
        numbered.append(row if row["Metadata_Site"] else {**row, "Metadata_Site": order})
    return numbered


def read_one(source: Path, path: str, page: int, read: Callable[[Path, int], npt.NDArray]) -> npt.NDArray[Any]:
    """Pixels (Y, X) of one plane, read by the library.

    Raises
    ------
    ImageError
        If the path leaves the folder, or the library cannot read one 2-D plane there. The message holds the path and
        the reason.
    """
    file = source / path
    if not file.resolve().is_relative_to(source.resolve()):
        msg = f"{path} leads outside the source folder {source}; images are read only from inside it"
        raise ImageError(msg)
    try:
        plane = np.asarray(read(file, page))
        if plane.ndim != 2:
            msg = f"its shape is {plane.shape}; expected one 2-D plane (Y, X)"
            raise ImageError(msg)
    except (MemoryError, ConfigError):
        raise
    except Exception as error:  # every reader has its own ways to fail on a broken file
        msg = f"cannot read plane {page} of {path} in {source}: {_reason(error)}; export the image again"
        raise ImageError(msg) from error
    return plane


def known(**facts: float | str | None) -> dict[str, float | str]:
    """Facts that a reader told: finite numbers and texts that are not empty."""
    return {
        fact: value if isinstance(value, str) else float(value)
        for fact, value in facts.items()
        if value not in (None, "") and (isinstance(value, str) or np.isfinite(value))
    }


def largest_value(dtype: npt.DTypeLike, bits: int | None) -> float:
    """Largest value of the camera: of its bits where they are told, else of the dtype; NaN for floats."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        return np.nan
    largest = int(np.iinfo(kind).max)
    return float(min(largest, 2**bits - 1)) if bits else float(largest)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
