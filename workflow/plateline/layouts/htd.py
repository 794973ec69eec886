"""The `.HTD` file beside an ImageXpress export: what the microscope was told to image.

Owns its reading only: lines of ``"Key", value, value``. It names no files.
"""

import csv
import logging
import re
from pathlib import Path
from typing import NamedTuple

from plateline.errors import PlatelineError, SourceError
from plateline.identity import SHAPES, parse_well

log = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What was to be imaged: wells, number of sites in each, wave number -> name, number of time points."""

    wells: list[str]
    sites: int
    waves: dict[int, str]
    times: int


def read_plan(file: Path, *, shape: int) -> Plan:
    """The plan in an `.HTD` file.

    Parameters
    ----------
    file : Path
    shape : int
        Wells of the plate as the plate sheet has it.

    Raises
    ------
    SourceError
        If the file cannot be read, is no `HTSInfoFile` of version 1, or is of a plate of another shape.
    """
    keys = _read_keys(file)
    version = " ".join(keys.get("HTSInfoFile", ["nothing"]))
    if not re.fullmatch(r"(?:Version )?1(?:\.\d+)?", version):
        msg = f"{file} says `HTSInfoFile` {version}; expected Version 1.0. Move it away to read the folder without it"
        raise SourceError(msg)
    if not version.endswith("1.0"):
        log.warning("%s is of %s; only Version 1.0 is known, compare the index with the plate", file, version)
    columns, rows = _count(keys, "XWells", file), _count(keys, "YWells", file)
    if (rows, columns) != SHAPES[shape]:
        msg = f"{file} is of a plate of {rows} x {columns} wells, not {shape}; correct `shape` in the plate sheet"
        raise SourceError(msg)
    return Plan(
        wells=_selected_wells(keys, shape, file),
        sites=max(
            1, sum(flag.upper() == "TRUE" for flags in _numbered(keys, "SiteSelection").values() for flag in flags)
        ),
        waves={number: (names or [""])[0] for number, names in _numbered(keys, "WaveName").items()},
        times=_count(keys, "TimePoints", file) if "TimePoints" in keys else 1,
    )


def _read_keys(file: Path) -> dict[str, list[str]]:
    """Key of each line -> its values."""
    try:
        text = file.read_bytes()
    except OSError as error:
        msg = f"{file} cannot be read: {error}; copy it again from the microscope"
        raise SourceError(msg) from error
    # Older versions write the code page of their Windows; only names of channels can differ.
    lines = _decode(text).replace("\0", "").splitlines()
    try:
        cells = [[cell.strip() for cell in line] for line in csv.reader(lines, skipinitialspace=True)]
    except csv.Error as error:
        msg = f"{file} cannot be read as lines of quoted keys and values: {error}; copy it again from the microscope"
        raise SourceError(msg) from error
    return {line[0]: line[1:] for line in cells if line}


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode("cp1252", errors="replace")


def _count(keys: dict[str, list[str]], key: str, file: Path) -> int:
    text = "".join(keys.get(key, ["nothing"]))
    if not re.fullmatch(r"[0-9]{1,6}", text):
        msg = f"{file} says {key} {text!r}; expected a whole number. Copy it again from the microscope"
        raise SourceError(msg)
    return int(text)


def _numbered(keys: dict[str, list[str]], stem: str) -> dict[int, list[str]]:
    """Values of the keys that are this stem and a number, by the number."""
    found = {re.fullmatch(stem + r"([0-9]{1,6})", key): values for key, values in keys.items()}
    return {int(match[1]): values for match, values in found.items() if match}


def _selected_wells(keys: dict[str, list[str]], shape: int, file: Path) -> list[str]:
    places = [
        (row, column)
        for row, flags in _numbered(keys, "WellsSelection").items()
        for column, flag in enumerate(flags, start=1)
        if flag.upper() == "TRUE"
    ]
    try:
        return [parse_well(f"R{row}C{column}", shape) for row, column in places]
    except PlatelineError as error:
        msg = f"{file} selects a well that its plate lacks: {error}; copy it again from the microscope"
        raise SourceError(msg) from error
