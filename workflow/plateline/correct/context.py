"""What a corrector may know of a well: its plate, batch, cell line and time point, and nothing of what is in it."""

import numpy as np
import numpy.typing as npt
import pandas as pd

PLATE, BATCH = "Metadata_Plate", "Metadata_Batch"
# Wells of different cells, or of different times, have no common scale.
WITHIN = ("Metadata_CellLine", "Metadata_TimePoint_h")

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


def context_of(wells: pd.DataFrame) -> pd.DataFrame:
    """The columns a corrector may see; where a table has no batches, each plate is its own.

    Parameters
    ----------
    wells : DataFrame
        One row per well, with `Metadata_Plate`.

    Returns
    -------
    DataFrame
        Text columns `Metadata_Plate`, `Metadata_Batch`, `Metadata_CellLine`, `Metadata_TimePoint_h` on a new index;
        empty text where a well has none.
    """
    told = {PLATE: wells[PLATE], BATCH: wells.get(BATCH, wells[PLATE])}
    told |= {column: wells.get(column, pd.Series("", index=wells.index)) for column in WITHIN}
    return pd.DataFrame({name: _text(column) for name, column in told.items()}, dtype=object)


def groups_within(context: pd.DataFrame, column: str) -> dict[str, npt.NDArray[np.intp]]:
    """Rows of each plate or batch, apart by cell line and time point.

    Parameters
    ----------
    context : DataFrame
        From `context_of`.
    column : {'Metadata_Plate', 'Metadata_Batch'}
        What is grouped.

    Returns
    -------
    dict of str to ndarray of intp
        Name of the group to its rows, sorted by name.
    """
    names = [context[c].to_numpy(object) for c in (column, *WITHIN)]
    keys = np.array([" ".join(part for part in row if part) for row in zip(*names, strict=True)], object)
    return {str(key): np.flatnonzero(keys == key) for key in np.unique(keys)}


def _text(column: pd.Series) -> Texts:
    return np.array(["" if pd.isna(value) else str(value) for value in column], object)
