"""What a segmenter must return and what is kept of it: label images, and one table row per object.

Owns the contract of every segmenter (`check_labels`): label images of one field in which the same number is the same
cell. It knows no well and no plate, and leaves out nothing for touching the border: `profile` decides that.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from plateline.errors import ImageError, LabelError
from plateline.identity import COMPARTMENTS, NO_FIELD

Labels = npt.NDArray[np.int32]


def status(image: npt.NDArray[np.float32]) -> dict[str, str]:
    """``status`` and ``reason`` of a field: ``ok``, or ``excluded`` and why it cannot be segmented.

    Parameters
    ----------
    image : (C, Y, X) float
        Corrected intensities of all channels.
    """
    reason = _flaw(image)
    return {"status": "excluded" if reason else "ok", "reason": reason}


def check_image(image: npt.NDArray[np.float32]) -> None:
    """Refuse what is not an image to segment.

    Parameters
    ----------
    image : (C, Y, X) float
        At least one channel.

    Raises
    ------
    ImageError
        If the axes differ, there is no channel, or pixels are not finite.
    """
    if image.ndim != 3 or image.shape[0] == 0:
        msg = f"image to segment has shape {image.shape}; expected (channel, y, x) with the nuclei channel first"
        raise ImageError(msg)
    if reason := _flaw(image):
        msg = f"image to segment: {reason}; expected none; look at its illumination image"
        raise ImageError(msg)


def count(labels: Labels) -> int:
    """Objects in a label image (Y, X)."""
    return int(np.count_nonzero(np.unique(labels)))


def number_objects(labels: Labels) -> Labels:
    """The same objects numbered from 1 in the raster order of their first pixels.

    Parameters
    ----------
    labels : (Y, X) int32
        0 is background, numbers may have gaps.
    """
    return _renumber(np.ascontiguousarray(labels).ravel()).reshape(labels.shape)


@njit(cache=True)
def _renumber(labels):
    """Numbers in the order in which they appear, 0 as it is."""
    numbers, found = {np.int32(0): np.int32(0)}, np.empty_like(labels)
    last, number = np.int32(0), np.int32(0)
    for place in range(labels.size):
        if labels[place] != last:
            last = labels[place]
            if last not in numbers:
                numbers[last] = np.int32(len(numbers))
            number = numbers[last]
        found[place] = number
    return found


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


def check_labels(labels: dict[str, npt.NDArray], shape: tuple[int, int], *, where: str) -> dict[str, npt.NDArray]:
    """What a segmenter returned, once it keeps the contract.

    Parameters
    ----------
    labels : dict of str to (Y, X) array
        ``nuclei``, an integer label image; if the method has them, ``cells`` and ``cytoplasm`` with the same number for
        the same cell, and ``confidence``, a map from 0 to 1. Anything else is left out.
    shape : (int, int)
        Height and width of the field.
    where : str
        Names method, plate and well in messages.

    Returns
    -------
    dict of str to (Y, X) int32, for confidence float32
        The same, `complete` adds the compartments that are not there.

    Raises
    ------
    LabelError
        If nuclei are missing, or cytoplasm is there without cells; if a label image has another shape than the field,
        no integer dtype or numbers outside int32 or below 0; if nuclei and cells do not have the same numbers; if
        cytoplasm has a number that cells lack; if confidence has another shape or values outside 0 to 1.
    """
    for needed, because in (("nuclei", True), ("cells", "cytoplasm" in labels)):
        if because and needed not in labels:
            msg = f"labels of {where} lack {needed!r}; got {sorted(labels)}; expected at least nuclei, or all three"
            raise LabelError(msg)
    given = [compartment for compartment in COMPARTMENTS if compartment in labels]
    checked: dict[str, npt.NDArray] = {c: _check_label_image(labels, c, shape, where) for c in given}
    _check_pairs(checked, where)
    if "confidence" in labels:
        checked["confidence"] = _check_confidence(labels["confidence"], shape, where)
    return checked


def _flaw(image: npt.NDArray[np.float32]) -> str:
    bad = image.size - np.count_nonzero(np.isfinite(image))
    return f"{bad} pixels are not finite after correction" if bad else ""


def _check_pairs(labels: dict[str, Labels], where: str) -> None:
    """The same numbers in every compartment that is there."""
    numbers = {compartment: np.unique(image) for compartment, image in labels.items()}
    for found, others in (("nuclei", "cells"), ("cells", "nuclei"), ("cytoplasm", "cells")):
        if not {found, others} <= set(labels):
            continue
        alone = np.setdiff1d(numbers[found], np.append(numbers[others], 0))
        if alone.size:
            text = f"{found} without {'a nucleus' if others == 'nuclei' else 'a cell'}"
            msg = (
                f"labels of {where} have {alone.size} {text}, the first is number {alone[0]}; expected the same number "
                "for the same cell in nuclei, cells and cytoplasm; correct the segmenter"
            )
            raise LabelError(msg)


def _objects(labels: Labels, compartment: str, confidence: npt.NDArray[np.float32] | None) -> pd.DataFrame:
    """Rows of `object_table` for one compartment."""
    flat = np.flatnonzero(labels)
    numbers, index = np.unique(labels.ravel()[flat], return_inverse=True)
    y, x = np.divmod(flat, labels.shape[1])
    box = np.zeros((numbers.size, 4), np.int64)
    box[:, :2] = labels.shape
    for first, last, place in ((0, 2, y), (1, 3, x)):
        np.minimum.at(box[:, first], index, place)
        np.maximum.at(box[:, last], index, place + 1)
    area = np.bincount(index, minlength=numbers.size)
    sure = np.full(flat.size, np.nan) if confidence is None else confidence.ravel()[flat]
    return pd.DataFrame(
        {
            "Metadata_ObjectNumber": numbers.astype(np.int64),
            "compartment": pd.Series([compartment] * numbers.size, dtype=object),
            "parent": numbers.astype(np.int64) if compartment != "nuclei" else np.zeros(numbers.size, np.int64),
            "centroid_y": np.bincount(index, y, numbers.size) / area,
            "centroid_x": np.bincount(index, x, numbers.size) / area,
            "box_y0": box[:, 0],
            "box_x0": box[:, 1],
            "box_y1": box[:, 2],
            "box_x1": box[:, 3],
            "area": area.astype(np.int64),
            "touches_border": (box[:, :2] == 0).any(axis=1) | (box[:, 2:] == labels.shape).any(axis=1),
            "confidence": np.bincount(index, sure, numbers.size) / area,
        }
    )


def _check_label_image(labels: dict[str, npt.NDArray], compartment: str, shape: tuple[int, int], where: str) -> Labels:
    """One label image as int32, or what is wrong with it."""
    image = np.asarray(labels[compartment])
    if image.shape != tuple(shape):
        msg = f"{compartment} labels of {where} have shape {image.shape}; expected {tuple(shape)}, that of the field"
        raise LabelError(msg)
    if not np.issubdtype(image.dtype, np.integer):
        msg = f"{compartment} labels of {where} have dtype {image.dtype}; expected an integer type"
        raise LabelError(msg)
    low, high = int(image.min(initial=0)), int(image.max(initial=0))
    if low < 0 or high > np.iinfo(np.int32).max:
        msg = (
            f"{compartment} labels of {where} have numbers from {low} to {high}; expected 0 to {np.iinfo(np.int32).max}"
        )
        raise LabelError(msg)
    return image.astype(np.int32)


def _check_confidence(image: npt.NDArray, shape: tuple[int, int], where: str) -> npt.NDArray[np.float32]:
    """The map of confidence as float32, or what is wrong with it."""
    image = np.asarray(image)
    if image.shape != tuple(shape):
        msg = f"confidence of {where} has shape {image.shape}; expected {tuple(shape)}, that of the field"
        raise LabelError(msg)
    # Written so that NaN, which no comparison holds for, does not pass.
    if not np.all((image >= 0) & (image <= 1)):
        msg = f"confidence of {where} has values from {np.min(image)} to {np.max(image)}; expected 0 to 1"
        raise LabelError(msg)
    return image.astype(np.float32)
