"""Nuclei by a threshold and a split of what touches: no training, any microscope, and quick.

Owns how a threshold is found and refused where it parts nothing but noise, and how touching nuclei are cut.
"""

from functools import partial

import cc3d
import edt
import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import ndimage as ndi
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from plateline.segment.labels import Labels, check_image, number_objects
from plateline.tiles import label_in_tiles

# How many robust sd of its background Otsu's threshold must lie above the background's median. Measured: Gaussian noise
# and uneven light without nuclei 1.0 to 1.4; real fields at least 2.4 (DSB 2018, crowded tissue) and 7.2 (BBBC013).
_MIN_CONTRAST = 2.0
# How far up from background to Otsu's threshold a pixel is that `adaptive` looks at: of 0.25, 0.3, 0.35 and 0.5 the
# best on training images of DSB 2018.
_FLOOR = 0.3
# The least share of a window that counts as a sample of nuclei, or of background.
_MIXED = 1e-4
# How far a tile sees beyond its sides: more than a nucleus is long.
OVERLAP_PX = 128

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.float32]


def otsu(
    image: Pixels, *, smooth_px: float, min_area_px: int, min_distance_px: int, tile_px: int = 0
) -> dict[str, Labels]:
    """Nuclei by Otsu's threshold, split by distance.

    Parameters
    ----------
    image : (C, Y, X) float32
        Intensities in any unit; but for rounding, scaling a channel by a positive factor or shifting it changes
        nothing. ``image[0]`` stains nuclei; further channels are not looked at.
    smooth_px : float
        Sigma of the Gaussian that the channel is smoothed by first, in pixels, at least 0.
    min_area_px : int
        Smaller nuclei are dropped and smaller holes in nuclei filled, in pixels.
    min_distance_px : int
        The centres of two touching nuclei lie further apart than this, in pixels; about a third of a nucleus' length.
    tile_px : int
        Largest side of the tiles in which a large field is split into nuclei, 0 for one go. The threshold is always
        that of the whole field. The nuclei are the same, as long as none is longer than `OVERLAP_PX`.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``, 0 where there is none, numbered from 1 in the raster order of their first pixels.

    Raises
    ------
    ImageError
        If the image is not (C, Y, X) with at least one channel, or holds pixels that are not finite.

    Notes
    -----
    A nuclei channel that is constant, or nothing but noise or uneven light, gives no objects; one of single photons on
    zeros may give some, and `qc` flags it as blank. The same image always gives the same labels.

    References
    ----------
    Otsu 1979, doi:10.1109/TSMC.1979.4310076, for the threshold. Malpica et al. 1997,
    doi:10.1002/(SICI)1097-0320(19970801)28:4<289::AID-CYTO3>3.0.CO;2-7, for nuclei split by a watershed of distance.
    """
    check_image(image)
    smooth = ndi.gaussian_filter(image[0], smooth_px, output=np.float32)
    return {"nuclei": _split_in_tiles(smooth > _threshold(smooth), min_area_px, min_distance_px, tile_px)}


def adaptive(
    image: Pixels, *, smooth_px: float, window_px: int, min_area_px: int, min_distance_px: int, tile_px: int = 0
) -> dict[str, Labels]:
    """Nuclei by a threshold halfway between the nuclei and the background around each pixel, split by distance.

    For crowded fields, and where dim nuclei stand beside bright ones.

    Parameters
    ----------
    image : (C, Y, X) float32
        As for `otsu`.
    smooth_px : float
        Sigma of the Gaussian that the channel is smoothed by first, in pixels, at least 0.
    window_px : int
        Side of the square around a pixel in which the brightness of nuclei and of background is taken, in pixels; two
        to four lengths of a nucleus.
    min_area_px, min_distance_px, tile_px : int
        As for `otsu`.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``, as `otsu` gives them.

    Raises
    ------
    ImageError
        As `otsu`.

    Notes
    -----
    What may be a nucleus at all lies above the background by a share of Otsu's threshold, which is found on the whole
    field; where that parts nothing but noise or uneven light there are no objects. Within this, the local threshold is
    the middle of two means, those of the pixels above and below the threshold before it (Ridler and Calvard's
    iteration, in a window), twice.

    References
    ----------
    Ridler and Calvard 1978, doi:10.1109/TSMC.1978.4310039.
    """
    check_image(image)
    smooth = ndi.gaussian_filter(image[0], smooth_px, output=np.float32)
    return {"nuclei": _split_in_tiles(_above_local(smooth, window_px), min_area_px, min_distance_px, tile_px)}


def _threshold(channel: Pixels) -> float:
    """Otsu's threshold, or infinity where it parts nothing but noise."""
    if channel.size == 0 or channel.min() == channel.max():
        return np.inf
    threshold = float(threshold_otsu(channel))
    return threshold if _contrast(channel, threshold) > _MIN_CONTRAST else np.inf


def _contrast(channel: Pixels, threshold: float) -> float:
    """How many robust sd of the background a threshold lies above the background's median."""
    background = channel[channel <= threshold]
    middle = float(np.median(background))
    spread = 1.4826 * float(np.median(np.abs(background - middle)))
    return (threshold - middle) / spread if spread > 0 else np.inf


def _above_local(channel: Pixels, window_px: int) -> Mask:
    """Pixels above the threshold of their window, and above the floor of the field."""
    threshold = _threshold(channel)
    if not np.isfinite(threshold):
        return np.zeros(channel.shape, np.bool_)
    background = np.median(channel[channel <= threshold])
    floor = background + _FLOOR * (threshold - background)
    allowed = mask = channel > floor
    mean = ndi.uniform_filter(channel - background, window_px)
    for _ in range(2):
        share = ndi.uniform_filter(mask.astype(np.float32), window_px)
        above = ndi.uniform_filter((channel - background) * mask, window_px)
        # Where a window is all nucleus or all background there is nothing between which to go halfway.
        mixed = (share > _MIXED) & (share < 1 - _MIXED)
        share = np.where(mixed, share, 0.5)
        middle = (above / share + (mean - above) / (1 - share)) / 2
        mask = allowed & (channel > np.where(mixed, middle + background, floor))
    return mask


def _split_in_tiles(mask: Mask, min_area_px: int, min_distance_px: int, tile_px: int) -> Labels:
    """Foreground cut where nuclei touch, in tiles where that is asked for, numbered in raster order."""
    split = partial(_split, min_area_px=min_area_px, min_distance_px=min_distance_px)
    return number_objects(label_in_tiles(split, mask, tile_px=tile_px, overlap_px=OVERLAP_PX))


def _split(mask: Mask, min_area_px: int, min_distance_px: int) -> Labels:
    """Foreground cut where nuclei touch."""
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    mask = _fill(mask, min_area_px)
    pieces = cc3d.connected_components(mask, connectivity=4, out_dtype=np.uint32).view(np.int32)
    # Smoothed, because the distance within a rough outline has many small peaks.
    distance = ndi.gaussian_filter(edt.edt(mask, parallel=1), 1.0)
    seeds = find_peaks(distance, pieces, min_distance_px=min_distance_px)
    nuclei = _flood(distance, seeds, pieces)
    nuclei[np.bincount(nuclei.ravel(), minlength=1)[nuclei] < min_area_px] = 0
    return nuclei


def _fill(mask: Mask, max_area_px: int) -> Mask:
    """The mask with its small holes filled; background inside a ring of touching nuclei is a large one, and stays."""
    holes = cc3d.connected_components(~mask, connectivity=4)
    small = np.bincount(holes.ravel(), minlength=1) <= max_area_px
    small[0] = False
    return mask | small[holes]


def find_peaks(height: Pixels, pieces: Labels, *, min_distance_px: int) -> Labels:
    """Peaks of a height, numbered from 1 in raster order, 0 elsewhere.

    Parameters
    ----------
    height : (Y, X) float32
        A peak is the highest pixel of its piece within `min_distance_px` of it along both axes; of equally high ones
        the first in raster order.
    pieces : (Y, X) int32
        Label image; no peak lies in 0. Pieces do not see each other.
    min_distance_px : int
        In pixels, at least 1.

    Returns
    -------
    (Y, X) int32
        Every piece has a peak.
    """
    peaks = np.zeros(height.shape, np.int32)
    _mark_peaks(height, pieces, min_distance_px, peaks)
    return peaks


@njit(cache=True)
def _mark_peaks(height, pieces, reach, peaks):
    """Fill `peaks`: neighbours first, since they rule out nearly every pixel."""
    n = 0
    for y in range(height.shape[0]):
        for x in range(height.shape[1]):
            if pieces[y, x] and _is_peak(height, pieces, y, x, 1) and _is_peak(height, pieces, y, x, reach):
                n += 1
                peaks[y, x] = n


@njit(cache=True)
def _is_peak(height, pieces, y, x, reach):
    """Whether no pixel of the same piece within reach is higher, or as high and earlier."""
    for j in range(max(y - reach, 0), min(y + reach + 1, height.shape[0])):
        for i in range(max(x - reach, 0), min(x + reach + 1, height.shape[1])):
            if pieces[j, i] == pieces[y, x] and (j, i) != (y, x):
                earlier = j < y or (j == y and i < x)
                if height[j, i] > height[y, x] or (earlier and height[j, i] == height[y, x]):
                    return False
    return True


def _flood(height: Pixels, seeds: Labels, pieces: Labels) -> Labels:
    """Pieces cut into the catchments of their seeds."""
    at = np.flatnonzero(seeds)
    owner = pieces.ravel()[at]
    several = np.bincount(owner, minlength=int(pieces.max(initial=0)) + 1) > 1
    # Most pieces are one nucleus: nothing to cut.
    alone = np.zeros(several.size, np.int32)
    alone[owner] = seeds.ravel()[at]
    alone[several] = 0
    return np.where(several[pieces], watershed(-height, seeds, mask=several[pieces]), alone[pieces])
