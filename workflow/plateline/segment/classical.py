"""Nuclei by a threshold and a split of what touches: no training, any microscope, and quick.

Owns how a threshold is found and refused where it parts nothing but noise, and how touching nuclei are cut.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage as ndi
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_holes
from skimage.segmentation import watershed

from plateline.segment.labels import Labels, check_image, number_objects

# How many robust sd of its background Otsu's threshold must lie above the background's median. Measured: Gaussian noise
# and uneven light without nuclei 1.0 to 1.4; real fields at least 2.4 (DSB 2018, crowded tissue) and 7.2 (BBBC013).
_MIN_CONTRAST = 2.0


def otsu(
    image: npt.NDArray[np.float32], *, smooth_px: float, min_area_px: int, min_distance_px: int
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
    return {"nuclei": _split(smooth > _threshold(smooth), min_area_px, min_distance_px)}


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
    return number_objects(nuclei)
