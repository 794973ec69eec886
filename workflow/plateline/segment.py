"""Nuclei, cells and cytoplasm as label images, and one table row per object.

Owns the contract of every segmenter (`check_labels`): three label images of one field in which the same number is the
same cell. It knows no well and no plate, and leaves out nothing for touching the border: `profile` decides that.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes
from skimage.segmentation import expand_labels, watershed

from plateline.errors import ImageError, LabelError
from plateline.identity import COMPARTMENTS, NO_FIELD

# How many robust sd of its background Otsu's threshold must lie above the background's median. Measured: Gaussian noise
# and uneven light without nuclei 1.0 to 1.4; real fields at least 2.4 (DSB 2018, crowded tissue) and 7.2 (BBBC013).
_MIN_CONTRAST = 2.0
# A pixel belongs to a cell from this share of the way up from background to the usual brightness around nuclei. Otsu on
# the cell channel instead loses dim cytoplasm exactly where the protein has left it, which biases every ratio.
_CELL_SHARE = 0.25

Labels = npt.NDArray[np.int32]


def otsu(
    image: npt.NDArray[np.float32],
    *,
    smooth_px: float,
    min_area_px: int,
    min_distance_px: int,
    grow_px: float,
) -> dict[str, Labels]:
    """Nuclei by Otsu's threshold, split by distance, and cells grown from them over the cell channels.

    Parameters
    ----------
    image : (C, Y, X) float32
        Intensities in any unit; but for rounding, scaling a channel by a positive factor or shifting it changes
        nothing. ``image[0]`` stains nuclei, the further channels (none, one or several) cells.
    smooth_px : float
        Sigma of the Gaussian that every channel is smoothed by first, in pixels, at least 0.
    min_area_px : int
        Smaller nuclei are dropped and smaller holes in nuclei filled, in pixels.
    min_distance_px : int
        The centres of two touching nuclei lie further apart than this, in pixels; about a third of a nucleus' length.
    grow_px : float
        A cell reaches no further than this from its nucleus, in pixels.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``, ``cells`` and ``cytoplasm`` (cell without nucleus), 0 where there is none. Nuclei are numbered from
        1 in the raster order of their first pixels, and a number is the same cell in all three.

    Raises
    ------
    ImageError
        If the image is not (C, Y, X) with at least one channel, or holds pixels that are not finite.

    Notes
    -----
    A nuclei channel that is constant, or nothing but noise or uneven light, gives no objects; one of single photons on
    zeros may give some, and `qc` flags it as blank.

    Every cell has at least one pixel of cytoplasm all around its nucleus, as far as neighbours leave room. Beyond, it
    goes where a cell channel is brighter than a quarter of the way from background (1st percentile) to the median
    around nuclei; the border between two cells follows the dimmest pixels. With several cell channels the brightest,
    each on that scale, counts. Without cell channels, or when all are flat, a cell is its nucleus and a ring of
    `grow_px`. The same image always gives the same labels.

    References
    ----------
    Otsu 1979, doi:10.1109/TSMC.1979.4310076, for the threshold. Malpica et al. 1997,
    doi:10.1002/(SICI)1097-0320(19970801)28:4<289::AID-CYTO3>3.0.CO;2-7, for nuclei split by a watershed of distance.
    """
    _check_image(image)
    smooth = [ndi.gaussian_filter(channel, smooth_px, output=np.float32) for channel in image]
    nuclei = _split(smooth[0] > _threshold(smooth[0]), min_area_px, min_distance_px)
    cells = _grow(nuclei, smooth[1:], grow_px)
    return {"nuclei": nuclei, "cells": cells, "cytoplasm": np.where(nuclei > 0, np.int32(0), cells)}


def object_table(labels: dict[str, Labels]) -> pd.DataFrame:
    """One row per object and compartment, sorted by number, then nuclei, cells, cytoplasm.

    Parameters
    ----------
    labels : dict of str to (Y, X) int32
        As `otsu` or `check_labels` return them. Numbers may have gaps.

    Returns
    -------
    pd.DataFrame
        ``Metadata_ObjectNumber``, ``compartment`` (``nuclei | cells | cytoplasm``), ``parent`` (number of the nucleus;
        0 for nuclei), ``centroid_y, centroid_x`` (mean of its pixels, counted from 0), ``box_y0, box_x0, box_y1,
        box_x1`` (the last two one past the object), ``area`` (pixels), ``touches_border`` (has a pixel on the edge of
        the field), ``confidence`` (NaN: a threshold gives none). No row for a compartment without pixels; without
        objects an empty table with the same columns and dtypes.
    """
    tables = [_objects(labels[compartment], compartment) for compartment in COMPARTMENTS]
    table = pd.concat(tables, ignore_index=True)
    order = np.lexsort((table.index, table["Metadata_ObjectNumber"]))
    return table.iloc[order].reset_index(drop=True)


def no_objects() -> pd.DataFrame:
    """The objects of a part without wells: all columns, no row."""
    return object_table(dict.fromkeys(COMPARTMENTS, np.zeros((1, 1), np.int32))).assign(**NO_FIELD)


def no_fields() -> pd.DataFrame:
    """The fields of a part without wells: all columns, no row."""
    texts = {"checksum": "", "status": "", "reason": ""}
    return pd.DataFrame(index=range(0)).assign(**NO_FIELD, **texts, n_nuclei=0)


def check_labels(labels: dict[str, npt.NDArray], shape: tuple[int, int], *, where: str) -> dict[str, Labels]:
    """The labels as int32, once they keep the contract of a segmenter.

    Parameters
    ----------
    labels : dict of str to (Y, X) integer
        What a segmenter returned; further compartments are left out.
    shape : (int, int)
        Height and width of the field.
    where : str
        Names method, plate and well in messages.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``, ``cells`` and ``cytoplasm``.

    Raises
    ------
    LabelError
        If a compartment is missing, has another shape than the field, no integer dtype or numbers outside int32 or
        below 0; if nuclei and cells do not have the same numbers; if cytoplasm has a number that cells lack.
    """
    checked = {compartment: _check_label_image(labels, compartment, shape, where) for compartment in COMPARTMENTS}
    nuclei, cells, cytoplasm = (np.unique(checked[compartment]) for compartment in COMPARTMENTS)
    for found, others, text in (
        (nuclei, cells, "nuclei without a cell"),
        (cells, nuclei, "cells without a nucleus"),
        (cytoplasm, cells, "cytoplasm without a cell"),
    ):
        alone = np.setdiff1d(found, np.append(others, 0))
        if alone.size:
            msg = (
                f"labels of {where} have {alone.size} {text}, the first is number {alone[0]}; expected the same number "
                "for the same cell in nuclei, cells and cytoplasm; correct the segmenter"
            )
            raise LabelError(msg)
    return checked


def _check_image(image: npt.NDArray[np.float32]) -> None:
    """Refuse what is not (C, Y, X) of finite numbers."""
    if image.ndim != 3 or image.shape[0] == 0:
        msg = f"image to segment has shape {image.shape}; expected (channel, y, x) with the nuclei channel first"
        raise ImageError(msg)
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        msg = f"image to segment has {bad} pixels that are not finite; expected none; look at its illumination image"
        raise ImageError(msg)


def _threshold(channel: npt.NDArray[np.float32]) -> float:
    """Otsu's threshold, or infinity where it parts nothing but noise."""
    if channel.size == 0 or channel.min() == channel.max():
        return np.inf
    threshold = float(threshold_otsu(channel))
    background = channel[channel <= threshold]
    middle = float(np.median(background))
    spread = 1.4826 * float(np.median(np.abs(background - middle)))
    return threshold if threshold > middle + _MIN_CONTRAST * spread else np.inf


def _split(mask: npt.NDArray[np.bool_], min_area_px: int, min_distance_px: int) -> Labels:
    """Foreground cut where nuclei touch, numbered in raster order."""
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    # Small holes only: the background inside a ring of touching nuclei is one too.
    mask = remove_small_holes(mask, max_size=min_area_px)
    pieces, _ = ndi.label(mask)
    # Smoothed, because the distance within a rough outline has many small peaks.
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1.0)
    peaks = peak_local_max(distance, min_distance=min_distance_px, labels=pieces, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    nuclei = watershed(-distance, seeds, mask=mask)
    nuclei[np.bincount(nuclei.ravel())[nuclei] < min_area_px] = 0
    return _number(nuclei)


def _number(labels: Labels) -> Labels:
    """The same objects numbered from 1 in the raster order of their first pixels."""
    found, first = np.unique(labels, return_index=True)
    in_order = found[np.argsort(first)]
    in_order = in_order[in_order > 0]
    numbers = np.zeros(found[-1] + 1, np.int32)
    numbers[in_order] = np.arange(1, in_order.size + 1)
    return numbers[labels]


def _grow(nuclei: Labels, channels: list[npt.NDArray[np.float32]], grow_px: float) -> Labels:
    """Cells: nuclei grown at most `grow_px` over the foreground of the channels."""
    near = ndi.distance_transform_edt(nuclei == 0) <= grow_px
    around = near & (nuclei == 0)
    if not nuclei.any() or not around.any():
        return nuclei.copy()
    scaled = [brightness for channel in channels if (brightness := _brightness(channel, around)) is not None]
    if not scaled:
        return expand_labels(nuclei, grow_px)
    # A nucleus without any cytoplasm would drop out of every ratio, and such cells are the dim ones.
    seeds = expand_labels(nuclei, min(1.0, grow_px))
    brightness = np.max(scaled, axis=0)
    return watershed(-brightness, seeds, mask=near & (brightness > _CELL_SHARE) | (seeds > 0))


def _brightness(channel: npt.NDArray[np.float32], around: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32] | None:
    """Channel on a scale from 0 at background to 1 at the median around nuclei; None where it is flat."""
    background = np.percentile(channel, 1)
    usual = np.median(channel[around])
    return (channel - background) / (usual - background) if usual > background else None


def _objects(labels: Labels, compartment: str) -> pd.DataFrame:
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
            "confidence": np.full(numbers.size, np.nan),
        }
    )


def _check_label_image(labels: dict[str, npt.NDArray], compartment: str, shape: tuple[int, int], where: str) -> Labels:
    """One label image as int32, or what is wrong with it."""
    if compartment not in labels:
        msg = f"labels of {where} lack {compartment!r}; got {sorted(labels)}; expected {', '.join(COMPARTMENTS)}"
        raise LabelError(msg)
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
