"""From the cells of a map's sheets to one row per well: a table with a header, or grids drawn like the plate.

Every cell that says something is read or refused by name; a sheet that is not read is named to the caller.
"""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from plateline.errors import PlatemapError
from plateline.identity import SHAPES, row_letters, well_name

# What people write into the corner of a grid that is no name.
_NO_NAME = {"", "<>", "\\", "/", "row", "rows", "well", "wells", "row/col", "row\\col", "row/column"}


class _Block(NamedTuple):
    """A grid on a sheet: where its corner is and how many wells it has."""

    row: int
    column: int
    height: int
    width: int
    name: str


def read_map(sheets: dict[str, pd.DataFrame], *, plate: str, shape: int) -> tuple[pd.DataFrame, list[str]]:
    """The map as a table with a header, every value text, and the names of the sheets that are not read.

    Parameters
    ----------
    sheets : dict of str to DataFrame
        Name of the sheet -> its cells as text, without header; blank cells are empty text. A file with one sheet has
        the empty name.
    plate : str
        For messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.

    Returns
    -------
    raw : DataFrame
        For `tidy`. With grids: `Well` and one column per grid; a well that is blank on every grid has no row.
    unread : list of str
        Of grids: sheets without one. Else all sheets but the first that is not blank.

    Raises
    ------
    PlatemapError
        If no sheet holds a cell; if a column with values has no name; if a grid has not the size of the plate, no name
        (in its corner, in the one cell above it, or that of its sheet) or the name of another; if a cell stands
        outside the grids of its sheet.

    Notes
    -----
    A grid is a corner with 1, 2, 3 ... to its right and A below. Grids may stand below or beside each other.
    """
    full = {name: _stripped(cells) for name, cells in sheets.items()}
    full = {name: cells for name, cells in full.items() if (cells != "").any()}
    if not full:
        msg = f"plate map of {plate} is empty; expected a header line and a line per well, or grids (config/README.md)"
        raise PlatemapError(msg)
    grids = {name: blocks for name, cells in full.items() if (blocks := _find_blocks(cells, name, plate))}
    if not grids:
        first = next(iter(full))
        return _table(full[first], plate), [name for name in full if name != first]
    layers: dict[str, np.ndarray] = {}
    for name, blocks in grids.items():
        _refuse_strays(full[name], blocks, name, plate)
        for block in blocks:
            _add_layer(layers, full[name], block, plate, shape)
    return _unfold(layers, shape), [name for name in full if name not in grids]


def _stripped(cells: pd.DataFrame) -> np.ndarray:
    """Cells as an object array of stripped text, (rows, columns)."""
    texts = cells.astype(object).where(cells.notna(), "")
    rows = [[str(cell).strip() for cell in row] for row in texts.to_numpy()]
    return np.array(rows, dtype=object).reshape(cells.shape)


def _table(cells: np.ndarray, plate: str) -> pd.DataFrame:
    """A table whose header is the first row that is not blank; blank rows and columns are left out."""
    rows = cells[(cells != "").any(axis=1)]
    rows = rows[:, (rows != "").any(axis=0)]
    header, body = rows[0], rows[1:]
    if (header == "").any():
        column = int(np.argmax(header == ""))
        found = next(cell for cell in body[:, column] if cell)
        msg = (
            f"plate map of {plate}: a column with values such as {found!r} has no name; expected one in the first "
            f"line, which has {[cell for cell in header if cell]}"
        )
        raise PlatemapError(msg)
    return pd.DataFrame(body, columns=list(header), dtype=object)


def _find_blocks(cells: np.ndarray, sheet: str, plate: str) -> list[_Block]:
    """Grids of a sheet in reading order, with their names."""
    blocks: list[_Block] = []
    for row, column in np.ndindex(max(cells.shape[0] - 1, 0), max(cells.shape[1] - 1, 0)):
        starts = _number(cells[row, column + 1]) == 1 and cells[row + 1, column].upper() == "A"
        if starts and not any(_covers(block, row, column) for block in blocks):
            height, width = _size(cells, row, column)
            if width > 1:  # a lone 1 beside an A is no grid; the smallest plate has three columns
                blocks.append(_Block(row, column, height, width, ""))
    return [block._replace(name=_name_of(cells, block, blocks, sheet, plate)) for block in blocks]


def _number(text: str) -> int:
    """A column's number as people and spreadsheets write it (1, 01, 1.0); 0 for any other text."""
    match = re.fullmatch(r"0*([0-9]{1,2})(?:\.0)?", text)
    return int(match[1]) if match else 0


def _size(cells: np.ndarray, row: int, column: int) -> tuple[int, int]:
    height = width = 0
    while column + width + 1 < cells.shape[1] and _number(cells[row, column + width + 1]) == width + 1:
        width += 1
    letters = [row_letters(n) for n in range(max(rows for rows, _ in SHAPES.values()))]
    while row + height + 1 < cells.shape[0] and cells[row + height + 1, column].upper() in letters[height : height + 1]:
        height += 1
    return height, width


def _covers(block: _Block, row: int, column: int) -> bool:
    return (
        block.row <= row <= block.row + block.height and block.column <= column <= block.column + block.width
    )  # header included


def _name_of(cells: np.ndarray, block: _Block, blocks: list[_Block], sheet: str, plate: str) -> str:
    """Name of a grid: its corner, else the only cell above it, else its sheet's where it is alone there."""
    corner = cells[block.row, block.column]
    above = _title(cells, block, blocks)
    alone = sheet if len(blocks) == 1 else ""
    name = (corner if corner.lower() not in _NO_NAME else "") or (above and cells[above]) or alone
    if not name:
        msg = (
            f"plate map of {plate}: the grid at cell {_address(block.row, block.column)}{_on(sheet)} has no name; "
            "write what it holds (Compound, Concentration, ...) into its corner or the cell above"
        )
        raise PlatemapError(msg)
    return name


def _title(cells: np.ndarray, block: _Block, blocks: list[_Block]) -> tuple[int, int] | None:
    """Place of the title in the row above a grid whose corner is no name; None without exactly one cell there."""
    if block.row == 0 or cells[block.row, block.column].lower() not in _NO_NAME:
        return None
    row = block.row - 1
    span = range(block.column, block.column + block.width + 1)
    found = [column for column in span if cells[row, column] and not any(_covers(b, row, column) for b in blocks)]
    return (row, found[0]) if len(found) == 1 else None


def _refuse_strays(cells: np.ndarray, blocks: list[_Block], sheet: str, plate: str) -> None:
    free = cells != ""
    for block in blocks:
        free[block.row : block.row + block.height + 1, block.column : block.column + block.width + 1] = False
        if title := _title(cells, block, blocks):
            free[title] = False
    if free.any():
        row, column = np.argwhere(free)[0]
        msg = (
            f"plate map of {plate}: cell {_address(row, column)}{_on(sheet)} holds {cells[row, column]!r}, outside the "
            f"grids ({free.sum()} such cells); expected only grids, each with rows A, B ... and columns 1, 2 ..."
        )
        raise PlatemapError(msg)


def _add_layer(layers: dict[str, np.ndarray], cells: np.ndarray, block: _Block, plate: str, shape: int) -> None:
    """Add the wells of a grid, (rows, columns), under its name."""
    rows, columns = SHAPES[shape]
    if (block.height, block.width) != (rows, columns):
        msg = (
            f"plate map of {plate}: grid {block.name!r} at cell {_address(block.row, block.column)} has {block.height} "
            f"rows and {block.width} columns; expected {rows} and {columns} of a plate of {shape} wells: correct the "
            "map or `shape` in the plate sheet"
        )
        raise PlatemapError(msg)
    if block.name in layers or block.name == "Well":
        msg = f"plate map of {plate} has more than one grid {block.name!r}, or one named Well; expected each name once"
        raise PlatemapError(msg)
    layers[block.name] = cells[block.row + 1 : block.row + 1 + rows, block.column + 1 : block.column + 1 + columns]


def _unfold(layers: dict[str, np.ndarray], shape: int) -> pd.DataFrame:
    """One row per well that is not blank on every grid."""
    rows, columns = SHAPES[shape]
    wells = [well_name(row, column) for row in range(rows) for column in range(columns)]
    frame = pd.DataFrame({"Well": wells} | {name: layer.ravel() for name, layer in layers.items()}, dtype=object)
    return frame[(frame[list(layers)] != "").any(axis=1)].reset_index(drop=True)


def _address(row: int, column: int) -> str:
    """Name of a cell as spreadsheets have it: (0, 0) -> A1."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row + 1}"


def _on(sheet: str) -> str:
    return f" of sheet {sheet!r}" if sheet else ""
