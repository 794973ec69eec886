"""Features of every cell of one field, under CellProfiler's names and by its definitions.

`names` holds the settings and what a feature is called, `field` puts a table together, and each family has its own
file; all work on the sorted list of `pixels`. A name of CellProfiler's is used only for CellProfiler's definition; what
it lacks has a name of our own. Reading the names imports no compiler: the kernels are imported when something is
measured.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import LabelError
from plateline.identity import NO_FIELD
from plateline.measure.names import FAMILIES, PREFIXES, Settings, feature_names

# Columns of the notes of a field, with their types.
NOTES = {"unit": "object", "reason": "object", "count": "int64"}

__all__ = [
    "FAMILIES",
    "PREFIXES",
    "Settings",
    "check_counts",
    "feature_names",
    "full_scales",
    "measure_field",
    "no_cells",
    "no_notes",
    "sum_notes",
]


def measure_field(
    image: npt.NDArray,
    labels: dict[str, npt.NDArray[np.int32]],
    channels: Sequence[str],
    *,
    full_scale: Sequence[float],
    settings: Settings,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per nucleus, with the features of nucleus, cell and cytoplasm; and notes on what could not be measured.

    Parameters
    ----------
    image : (C, Y, X) of numbers
        Intensities in counts, corrected; may be below 0 and above full scale.
    labels : dict of str to (Y, X) int32
        ``nuclei``, ``cells`` and ``cytoplasm``; the same number is the same cell. Numbers without a nucleus are not
        measured.
    channels : sequence of str
        Names of the C channels, distinct.
    full_scale : sequence of float
        Counts that become 1, per channel.
    settings : Settings
        Section ``measure`` of the config. A family or channel that is switched off changes no other column.

    Returns
    -------
    cells : pd.DataFrame
        ``Metadata_ObjectNumber`` (int64), the numbers found in ``nuclei``, rising, gaps kept; parents and numbers of
        children (int64, metadata); then `feature_names` (float64). Without nuclei an empty table with the same columns.
    notes : pd.DataFrame
        ``unit``, ``reason`` and ``count``: cells with a compartment or channel that is NaN throughout, and pixels that
        were clipped for Texture.

    Raises
    ------
    ConfigError
        If a family is unknown.
    ImageError
        If the image is not one plane per channel name and scale, or names repeat.
    LabelError
        If a compartment is missing, is not of whole numbers, or has not the image's height and width.

    Notes
    -----
    Lengths and places are in pixels counted from 0, Orientation in degrees from -90 to 90 between the y axis and the
    major axis. The maximum of a bounding box is one past the object. NaN stands where a cell has no pixel in the
    compartment, where a pixel of it is not finite (that channel only), and where a feature has no value: a centre of
    mass without mass, FormFactor without a perimeter, a correlation with a constant channel, Zernike moments of one
    pixel, the distance of a neighbour that is not there. CellProfiler writes infinity or 0 in some of these places.

    ``Cells_Intensity_NucleiCytoplasmLog2Ratio_{channel}`` is ours: log2 of the nucleus' mean over the cytoplasm's mean;
    NaN unless both are above 0.

    References
    ----------
    Stirling et al. 2021, doi:10.1186/s12859-021-04344-9 (CellProfiler 4).
    """
    # Here, so that whoever needs the names only does not wait for the compiler.
    from plateline.measure.field import measure

    cells, notes = measure(image, labels, list(channels), full_scale, settings)
    return cells, pd.DataFrame(notes, columns=list(NOTES)).astype(NOTES)


def check_counts(measured: int, segmented: int, *, where: str) -> None:
    """Refuse a field whose cells are not those that were segmented.

    Raises
    ------
    LabelError
        If a cell was lost or came up, with both counts and where.
    """
    if measured != segmented:
        msg = f"{where}: {measured} cells measured, {segmented} nuclei segmented; expected as many; rerun segment_part"
        raise LabelError(msg)


def no_cells(channels: Sequence[str], settings: Settings) -> pd.DataFrame:
    """The features of a part without cells: all columns, no row. Compiles all kernels, if they are not in the cache."""
    nothing = dict.fromkeys(PREFIXES, np.zeros((8, 8), np.int32))
    image = np.zeros((len(channels), 8, 8), np.float32)
    cells, _ = measure_field(image, nothing, channels, full_scale=[1] * len(channels), settings=settings)
    return cells.assign(**NO_FIELD)


def full_scales(channels: Sequence[str], full_scale: dict[str, float], *, default: float) -> list[float]:
    """Counts that become 1 per channel; `default`, the largest value of the camera, for those not named."""
    return [full_scale.get(channel, default) for channel in channels]


def no_notes() -> pd.DataFrame:
    """The notes of a field of which nothing is to be told."""
    return pd.DataFrame(columns=list(NOTES)).astype(NOTES)


def sum_notes(notes: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Notes of many fields in one unit: ``reason`` and ``count``, one row per reason."""
    return notes[notes["unit"] == unit].groupby("reason", as_index=False, sort=True)["count"].sum()
