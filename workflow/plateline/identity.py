"""The identity columns, and the names of wells.

Owns which ``Metadata_`` columns identify a field, a well or a cell, and how every spelling of a well becomes ``A01``.
"""

import re
from collections.abc import Iterable

from plateline.errors import PlatelineError

PREFIX = "Metadata_"
READOUT = "Metadata_Readout_"
COMPARTMENTS = ("nuclei", "cells", "cytoplasm")
WELL = ["Metadata_Plate", "Metadata_Well"]
FIELD = [*WELL, "Metadata_Site", "Metadata_Timepoint"]
CELL = [*FIELD, "Metadata_ObjectNumber"]
# What a table without rows is given so that it has the identity columns, with their types.
NO_FIELD = {"Metadata_Plate": "", "Metadata_Well": "", "Metadata_Site": 0, "Metadata_Timepoint": 0, "Metadata_Key": ""}

# ANSI/SLAS formats: wells -> (rows, columns).
SHAPES = {
    6: (2, 3),
    12: (3, 4),
    24: (4, 6),
    48: (6, 8),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}

# 32 rows at most: A to Z, then AA to AF.
_LETTERS = re.compile(r"([A-Z]|A[A-F])0*(\d{1,2})")
_NUMBERS = re.compile(r"R0*(\d{1,2})C0*(\d{1,2})")


def row_letters(row: int) -> str:
    """Letters of a row counted from 0: 0 -> ``A``, 25 -> ``Z``, 26 -> ``AA``, 31 -> ``AF``."""
    return chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)


def row_number(letters: str) -> int:
    """Row counted from 0 of its letters, upper or lower case."""
    letters = letters.upper()
    return ord(letters[-1]) - ord("A") + (26 if len(letters) == 2 else 0)


def well_name(row: int, column: int) -> str:
    """Name of the well at row and column, both counted from 0: (0, 0) -> ``A01``."""
    return f"{row_letters(row)}{column + 1:02d}"


def split_well(well: str) -> tuple[str, str]:
    """Row letters and padded column of a canonical name: ``A01`` -> (``A``, ``01``)."""
    return well[:-2], well[-2:]


def parse_well(text: str, shape: int = 1536) -> str:
    """Canonical name of a well from any usual spelling.

    Parameters
    ----------
    text : str
        ``A01``, ``A1``, ``a01``, ``A001``, ``r01c01`` or ``R1C1``; surrounding blanks are ignored.
    shape : int
        Wells of the plate, a key of `SHAPES`; a name outside it is refused.

    Returns
    -------
    str
        ``A01`` to ``AF48``.

    Raises
    ------
    PlatelineError
        If the text is no well, or the plate of that shape has no such well.

    Examples
    --------
    >>> parse_well("r02c11"), parse_well(" aa3 ")
    ('B11', 'AA03')
    """
    name = str(text).strip().upper()
    if match := _LETTERS.fullmatch(name):
        row, column = row_number(match[1]), int(match[2]) - 1
    elif match := _NUMBERS.fullmatch(name):
        row, column = int(match[1]) - 1, int(match[2]) - 1
    else:
        msg = f"{text!r} is not a well; expected a name like A01, a1 or r01c01"
        raise PlatelineError(msg)
    rows, columns = SHAPES[shape]
    if not (0 <= row < rows and 0 <= column < columns):
        msg = f"well {text!r} is not on a plate of {shape} wells; expected A01 to {well_name(rows - 1, columns - 1)}"
        raise PlatelineError(msg)
    return well_name(row, column)


def fit_shape(wells: list[str]) -> int:
    """Smallest plate shape that holds all the wells (canonical names); 96 when there are none."""
    rows = max((row_number(well[:-2]) + 1 for well in wells), default=8)
    columns = max((int(well[-2:]) for well in wells), default=12)
    return next(n for n, (r, c) in SHAPES.items() if rows <= r and columns <= c)


def is_feature(column: str) -> bool:
    """Whether a column is a feature: everything without the ``Metadata_`` prefix."""
    return not column.startswith(PREFIX)


def features_of(columns: list[str]) -> list[str]:
    """The feature columns, in order."""
    return [column for column in columns if is_feature(column)]


def channel_numbers(channels: list[str], wanted: list[str], *, key: str, plate: str) -> list[int]:
    """Places of the wanted channels among a plate's channels.

    Raises
    ------
    PlatelineError
        If the plate has no such channel; names the config key, the plate and the channels it has.
    """
    for name in wanted:
        if name not in channels:
            msg = f"{key}: plate {plate} has no channel {name!r}; it has {', '.join(channels)}"
            raise PlatelineError(msg)
    return [channels.index(name) for name in wanted]


def readouts_of(columns: Iterable[str], first: str = "") -> list[str]:
    """Names of the readouts among the columns, in order, the one named `first` before the others."""
    names = [column.removeprefix(READOUT) for column in columns if column.startswith(READOUT)]
    return sorted(names, key=lambda name: name != first)
