"""The table of objects: what is kept of label images beside the pixels.

Owns the columns of the tables of `segment`.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from plateline.identity import COMPARTMENTS, NO_FIELD
from plateline.segment.labels import Labels


def object_table(labels: dict[str, npt.NDArray]) -> pd.DataFrame:
    """One row per object and compartment, sorted by number, then nuclei, cells, cytoplasm.

    Parameters
    ----------
    labels : dict of str to (Y, X) int32
        ``nuclei, cells, cytoplasm``, and if the method gives it ``confidence``, (Y, X) float32 from 0 to 1. Numbers may
        have gaps.

    Returns
    -------
    pd.DataFrame
        ``Metadata_ObjectNumber``, ``compartment`` (``nuclei | cells | cytoplasm``), ``parent`` (number of the nucleus;
        0 for nuclei), ``centroid_y, centroid_x`` (mean of its pixels, counted from 0), ``box_y0, box_x0, box_y1,
        box_x1`` (the last two one past the object), ``area`` (pixels), ``touches_border`` (has a pixel on the edge of
        the field), ``confidence`` (of nuclei, mean over their pixels; NaN where the method gives none). No row for a
        compartment without pixels; without objects an empty table with the same columns and dtypes.
    """
    confidence = {"nuclei": labels.get("confidence")}
    tables = [_objects(labels[compartment], compartment, confidence.get(compartment)) for compartment in COMPARTMENTS]
    table = pd.concat(tables, ignore_index=True)
    order = np.lexsort((table.index, table["Metadata_ObjectNumber"]))
    return table.iloc[order].reset_index(drop=True)


def no_objects() -> pd.DataFrame:
    """The objects of a part without wells: all columns, no row."""
    return object_table(dict.fromkeys(COMPARTMENTS, np.zeros((1, 1), np.int32))).assign(**NO_FIELD)


def no_fields() -> pd.DataFrame:
    """The fields of a part without wells: all columns, no row."""
    texts = {"checksum": "", "status": "", "reason": ""}
    return pd.DataFrame(index=range(0)).assign(**NO_FIELD, **texts, n_nuclei=0, disagreement=np.nan)


def _objects(labels: Labels, compartment: str, confidence: npt.NDArray[np.float32] | None) -> pd.DataFrame:
    """Rows of `object_table` for one compartment."""
    names, compact = _compact(labels)
    sure = np.full(labels.shape, np.nan, np.float32) if confidence is None else confidence
    area, box, sums = _measured(np.ascontiguousarray(compact), np.ascontiguousarray(sure), names.size)
    there = (area > 0) & (names > 0)
    numbers, area, box = names[there], area[there], box[there]
    y, x, certain = (sums[there] / area[:, None]).T
    return pd.DataFrame(
        {
            "Metadata_ObjectNumber": numbers.astype(np.int64),
            "compartment": pd.Series([compartment] * numbers.size, dtype=object),
            "parent": numbers.astype(np.int64) if compartment != "nuclei" else np.zeros(numbers.size, np.int64),
            "centroid_y": y,
            "centroid_x": x,
            "box_y0": box[:, 0],
            "box_x0": box[:, 1],
            "box_y1": box[:, 2],
            "box_x1": box[:, 3],
            "area": area,
            "touches_border": (box[:, :2] == 0).any(axis=1) | (box[:, 2:] == labels.shape).any(axis=1),
            "confidence": certain,
        }
    )


def _compact(labels: Labels) -> tuple[npt.NDArray, npt.NDArray]:
    """Numbers in rising order, and their places in it (Y, X); numbers that no pixel has may be among them."""
    most = int(labels.max(initial=0))
    if most <= labels.size:
        return np.arange(most + 1), labels
    names, place = np.unique(np.append(labels.ravel(), 0), return_inverse=True)  # 0 first, also where no pixel has it
    return names, place[:-1].reshape(labels.shape)


@njit(cache=True)
def _measured(labels, confidence, count):
    """Area (count,), box (count, 4) and sums of y, x and confidence (count, 3) of each number."""
    area, box, sums = np.zeros(count, np.int64), np.zeros((count, 4), np.int64), np.zeros((count, 3))
    high, wide = labels.shape
    box[:, 0], box[:, 1] = high, wide
    for y in range(high):
        for x in range(wide):
            number = labels[y, x]
            if number > 0:
                area[number] += 1
                box[number, 0], box[number, 2] = min(box[number, 0], y), y + 1
                box[number, 1], box[number, 3] = min(box[number, 1], x), max(box[number, 3], x + 1)
                sums[number, 0] += y
                sums[number, 1] += x
                sums[number, 2] += confidence[y, x]
    return area, box, sums
