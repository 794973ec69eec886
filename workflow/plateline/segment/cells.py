"""Whole cells from nuclei and the channels that stain cells, and cytoplasm by difference.

Owns the step that every segmenter shares (`complete`), so that each nucleus has exactly one cell of its number.
"""

import heapq

import edt
import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage as ndi
from skimage.segmentation import expand_labels

from plateline.errors import ConfigError
from plateline.segment.labels import Labels
from plateline.segment.watershed import watershed

# How far from nuclei, in pixels, the usual brightness of cells is taken at most. Beyond, there may be no cell.
_USUAL_PX = 12
METHODS = ("watershed", "propagation", "ring")

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def complete(
    labels: dict[str, npt.NDArray],
    image: npt.NDArray[np.float32],
    *,
    method: str,
    smooth_px: float,
    foreground_share: float,
    regularisation: float,
    grow_px: float,
) -> dict[str, npt.NDArray]:
    """The labels of a segmenter with cells and cytoplasm, where it found nuclei only.

    Parameters
    ----------
    labels : dict of str to (Y, X) int32
        As `check_labels` leaves them: ``nuclei``, and whatever else the method gives, which stays as it is.
    image : (C, Y, X) float32
        ``image[0]`` stains nuclei, the further channels (none, one or several) cells. But for rounding, scaling a
        channel by a positive factor or shifting it changes nothing.
    method : {'watershed', 'propagation', 'ring'}
        How neighbours share the space between them; see Notes.
    smooth_px : float
        Sigma of the Gaussian that the cell channels are smoothed by first, in pixels, at least 0.
    foreground_share : float
        A pixel belongs to a cell from this share of the way up from background (1st percentile) to the usual brightness
        around nuclei (median), 0 to 1.
    regularisation : float
        Of `propagation`, at least 0: 0 follows brightness alone, large values distance alone.
    grow_px : float
        A cell reaches no further than this from its nucleus, in pixels, at least 0.

    Returns
    -------
    dict of str to (Y, X) int32
        With ``nuclei``, ``cells`` and ``cytoplasm`` (cell without nucleus), 0 where there is none.

    Raises
    ------
    ConfigError
        If there is no such method.

    Notes
    -----
    Every cell has at least one pixel of cytoplasm all around its nucleus, as far as neighbours leave room. Beyond, it
    goes where a cell channel is in the foreground; with several the brightest, each on its own scale, counts. Otsu's
    threshold on a cell channel instead loses dim cytoplasm exactly where the protein has left it, which biases every
    ratio. Without cell channels, or when all are flat, a cell is its nucleus and a ring of `grow_px`.

    Two cells meet: under ``watershed`` in the dimmest pixels between them; under ``propagation`` where the ways from
    both nuclei are equally long, a way being longer the more brightness changes along it; under ``ring``, which takes
    no notice of brightness, halfway.

    References
    ----------
    Propagation: Jones, Carpenter and Golland 2005, doi:10.1007/11569541_54.
    """
    if method not in METHODS:
        msg = f"segment.cells: unknown method {method!r}; known are {', '.join(METHODS)}"
        raise ConfigError(msg)
    if "cells" not in labels:
        smooth = [ndi.gaussian_filter(channel, smooth_px, output=np.float32) for channel in image[1:]]
        cells = _grow(labels["nuclei"], smooth, method, foreground_share, regularisation, grow_px)
        labels = labels | {"cells": cells}
    if "cytoplasm" not in labels:
        labels = labels | {"cytoplasm": np.where(labels["nuclei"] > 0, np.int32(0), labels["cells"])}
    return labels


def propagate(seeds: Labels, brightness: Pixels, mask: Mask, *, regularisation: float) -> Labels:
    """Each pixel of the mask with the number of the seed from which the way to it is shortest.

    Parameters
    ----------
    seeds : (Y, X) int32
        0 where there is none.
    brightness : (Y, X) float32
        A step of length d over which brightness changes by b is sqrt((b^2 + r d^2) / (1 + r)) long, r being the
        regularisation. Steps go to the 8 neighbours.
    mask : (Y, X) bool
        Where a way may lead; a pixel that no seed reaches stays 0.
    regularisation : float
        At least 0.

    Returns
    -------
    (Y, X) int32
        Of two seeds equally far away, the one with the smaller number.
    """
    # With a rim that no way leads to, no step needs to look where the image ends; nor does a way lead into a seed.
    numbers, inside, level = np.pad(seeds, 1), np.pad(mask & (seeds == 0), 1), np.pad(brightness, 1).astype(np.float64)
    _walk(numbers.ravel(), level.ravel(), inside.ravel(), numbers.shape[1], regularisation)
    return numbers[1:-1, 1:-1].copy()


@njit(cache=True)
def _walk(numbers, brightness, inside, width, regularisation):
    """Fill `numbers` outwards from the seeds, nearest pixels first (Dijkstra)."""
    offsets = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    squares = np.array([2.0, 1.0, 2.0, 1.0, 1.0, 2.0, 1.0, 2.0])
    distance = np.full(numbers.size, np.inf)
    done = np.zeros(numbers.size, np.bool_)
    waiting = [(0.0, numbers[place], place) for place in np.flatnonzero(numbers)]
    while len(waiting) > 0:
        far, number, place = heapq.heappop(waiting)
        if done[place]:
            continue
        done[place] = True
        numbers[place] = number
        for k in range(8):
            other = place + offsets[k]
            if done[other] or not inside[other]:
                continue
            change = brightness[other] - brightness[place]
            length = np.sqrt((change * change + regularisation * squares[k]) / (1.0 + regularisation))
            # Equal ways are kept: the smaller number of two is the first out of the heap.
            if far + length <= distance[other]:
                distance[other] = far + length
                heapq.heappush(waiting, (far + length, number, other))


def _grow(
    nuclei: Labels,
    channels: list[Pixels],
    method: str,
    share: float,
    regularisation: float,
    grow_px: float,
) -> Labels:
    """Cells: nuclei grown at most `grow_px` over the foreground of the channels."""
    if not nuclei.any() or nuclei.all():
        return nuclei.copy()
    far = edt.edt(nuclei == 0, parallel=1)
    near = far <= grow_px
    around = near & (nuclei == 0)
    if not around.any():
        return nuclei.copy()
    close = around & (far <= _USUAL_PX)
    scaled = [brightness for channel in channels if (brightness := _brightness(channel, close)) is not None]
    if method == "ring" or not scaled:
        return expand_labels(nuclei, grow_px)
    # A nucleus without any cytoplasm would drop out of every ratio, and such cells are the dim ones.
    seeds, brightness = _ringed(nuclei) if grow_px >= 1 else nuclei, np.max(scaled, axis=0)
    mask = near & (brightness > share) | (seeds > 0)
    if method == "watershed":
        return watershed(seeds, brightness, mask)
    return propagate(seeds, brightness, mask, regularisation=regularisation)


def _ringed(nuclei: Labels) -> Labels:
    """Nuclei with the free pixels above, left, right and below theirs; where two touch, in this order."""
    rim = np.pad(nuclei, 1)
    for side in (rim[2:, 1:-1], rim[1:-1, 2:], rim[1:-1, :-2], rim[:-2, 1:-1]):
        nuclei = np.where(nuclei > 0, nuclei, side)
    return nuclei


def _brightness(channel: Pixels, around: Mask) -> Pixels | None:
    """Channel on a scale from 0 at background to 1 at the median around nuclei; None where it is flat."""
    background = np.percentile(channel, 1)
    usual = np.median(channel[around])
    return (channel - background) / (usual - background) if usual > background else None
