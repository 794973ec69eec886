"""Whether the controls stand where the plate map says: turned, mirrored, shifted plates and swapped maps.

The wells tell only whether negative and positive controls differ, not which of them should read higher: an arrangement
that exchanges the two groups as a whole looks like the map itself.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from plateline.assay.controls import Floats
from plateline.assay.layout import check_plate, places
from plateline.assay.positions import NOTHING
from plateline.assay.rank import Groups, permuted_ranks, tail
from plateline.identity import READOUT, SHAPES

MIN_GROUP = 3
# Gain in separation (0 to 1) from which an arrangement is worth a look at the plate.
GAIN = 0.2
_LABELS = {"negative": -1, "positive": 1}

# Name -> well of the map whose content a well at (row, column) would hold, on a plate of R rows and C columns.
ARRANGEMENTS: dict[str, Callable[[Groups, Groups, int, int], tuple[Groups, Groups]]] = {
    "turned by 180 degrees": lambda r, c, n_rows, n_columns: (n_rows - 1 - r, n_columns - 1 - c),
    "mirrored left to right": lambda r, c, n_rows, n_columns: (r, n_columns - 1 - c),
    "mirrored top to bottom": lambda r, c, n_rows, n_columns: (n_rows - 1 - r, c),
    "one column to the right": lambda r, c, n_rows, n_columns: (r, c - 1),
    "one column to the left": lambda r, c, n_rows, n_columns: (r, c + 1),
    "one row down": lambda r, c, n_rows, n_columns: (r - 1, c),
    "one row up": lambda r, c, n_rows, n_columns: (r + 1, c),
    "neighbouring columns swapped": lambda r, c, n_rows, n_columns: (r, c ^ 1),
}


def orientation(
    wells: pd.DataFrame,
    readout: str,
    *,
    shape: int,
    n_permutations: int,
    seed: int,
    others: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Any]:
    """Whether another arrangement of the plate separates its controls better than the plate map.

    Parameters
    ----------
    wells : DataFrame
        One plate's profile table.
    readout : str
        Name without the prefix.
    shape : int
        Wells of the plate, a key of `identity.SHAPES`.
    n_permutations : int
        Of the values over the wells.
    seed : int
        Of the permutations.
    others : mapping of str to DataFrame, optional
        Maps of other plates by name, with `Metadata_Well` and `Metadata_ControlType`: tried as arrangements too.

    Returns
    -------
    dict
        As `positions.edge_effect`. `effect_size` is the gain in separation of the best arrangement over the map, -1 to
        1; separation is the gap between the mean ranks of positive and negative wells, 1 where all others lie between.
        `detail` names that arrangement where the gain is above 0. `p` is that of so large a gain if the readout did
        not depend on the well at all; it takes the choice among the arrangements into account.

    Raises
    ------
    PlatelineError
        If the table holds several plates or lacks a column.

    Notes
    -----
    Samples count where an arrangement puts a control on them, so a finding may also be samples that work and controls
    that do not. Arrangements that give every well its own label, or exchange the groups as a whole, are left out.
    """
    check_plate(wells, [readout])
    table = places(wells)
    table = table[np.isfinite(table[READOUT + readout])]
    mapped = _labels_of(wells, table)
    found = NOTHING | {"n_wells": int((mapped != 0).sum())}
    if reason := _short(mapped):
        return found | {"reason": reason}
    tried = {name: _moved(wells, table, name, shape) for name in ARRANGEMENTS}
    tried |= {name: _labels_of(other, table) for name, other in (others or {}).items()}
    tried = {name: labels for name, labels in tried.items() if not _same(labels, mapped) and not _short(labels)}
    if not tried:
        why = "every other arrangement keeps or exchanges the controls as a whole, or leaves too few of them"
        return found | {"reason": f"not estimable: {why}"}
    gains = _gains(table[READOUT + readout].to_numpy(), mapped, tried, n_permutations, seed)
    best = int(np.argmax(gains[0]))
    detail = list(tried)[best] if gains[0, best] > 0 else ""
    highest = gains.max(axis=1)
    floor = 1 / (n_permutations + 1)
    return found | {"effect_size": float(highest[0]), "p": tail(highest), "p_floor": floor, "detail": detail}


def _labels_of(source: pd.DataFrame, table: pd.DataFrame) -> Groups:
    """-1, 1 or 0 of each well of the table as a map labels it."""
    kinds = source.drop_duplicates("Metadata_Well").set_index("Metadata_Well")["Metadata_ControlType"]
    return kinds.reindex(table.index).map(_LABELS).fillna(0).to_numpy(np.int64)


def _moved(wells: pd.DataFrame, table: pd.DataFrame, name: str, shape: int) -> Groups:
    """Labels of the wells of the table under a named arrangement."""
    n_rows, n_columns = SHAPES[shape]
    grid = np.zeros((n_rows + 2, n_columns + 2), np.int64)  # a rim of nothing, for what is shifted in
    controls = places(wells.assign(Metadata_Status="ok"))
    grid[controls["row"] + 1, controls["column"] + 1] = controls["kind"].map(_LABELS).fillna(0).astype(np.int64)
    row, column = ARRANGEMENTS[name](table["row"].to_numpy(), table["column"].to_numpy(), n_rows, n_columns)
    return grid[row + 1, column + 1]


def _same(labels: Groups, mapped: Groups) -> bool:
    """Whether labels are those of the map, or all of them exchanged."""
    return np.array_equal(labels, mapped) or np.array_equal(labels, -mapped)


def _short(labels: Groups) -> str:
    """Why there are too few controls."""
    n = {name: int((labels == label).sum()) for name, label in _LABELS.items()}
    short = [f"{count} {name} well{'s' * (count != 1)}" for name, count in n.items() if count < MIN_GROUP]
    return f"not estimable: {' and '.join(short)}, at least {MIN_GROUP} needed" if short else ""


def _gains(values: Floats, mapped: Groups, tried: Mapping[str, Groups], n_permutations: int, seed: int) -> Floats:
    """Separation of each arrangement less that of the map, as measured (row 0) and permuted, (1 + B, A)."""
    used = np.any([mapped, *tried.values()], axis=0)
    ranks = permuted_ranks(values[used], n_permutations, seed) * 2 / used.sum()

    def separation(labels: Groups) -> Floats:
        return np.abs(ranks[:, labels[used] > 0].mean(axis=1) - ranks[:, labels[used] < 0].mean(axis=1))

    return np.stack([separation(labels) for labels in tried.values()], axis=1) - separation(mapped)[:, None]
