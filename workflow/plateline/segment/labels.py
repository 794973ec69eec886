"""What a segmenter must return: label images of one field.

Owns the contract of every segmenter (`check_labels`): label images of one field in which the same number is the same
cell. It knows no well and no plate, and leaves out nothing for touching the border: `profile` decides that.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from plateline.errors import ImageError, LabelError
from plateline.identity import COMPARTMENTS

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
