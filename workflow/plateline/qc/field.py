"""Measures of one field, channel by channel, on counts as the camera gave them."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu

from plateline.identity import NO_FIELD
from plateline.qc.focus import focus_score, laplacian, power_slope, tenengrad
from plateline.qc.levels import Levels, levels_of, mean, median_deviation, part, quantile

METRICS = [
    "focus_score",
    "focus_slope",
    "focus_laplacian",
    "focus_tenengrad",
    "saturation",
    "background",
    "background_gradient",
    "foreground",
    "snr",
    "range",
    "contrast",
    "debris_score",
]
_MAD_TO_SD = 1.4826
_ROUNDING_SD = 12**-0.5
# Side of the averaged blocks, pixels: smaller than a nucleus, and a hot pixel counts for a sixteenth.
_BLOCK = 4
# Tiles a side whose darkest blocks stand for the background there.
_TILES = 8
_DARK = 10
# What noise alone spans from its 0.1th to its 99.9th percentile, standard deviations.
_NOISE_SPAN = 6.18


def measure_field(
    image: npt.NDArray, channels: Sequence[str], full_scale: npt.ArrayLike, *, background_percentile: float
) -> pd.DataFrame:
    """Quality of each channel of one field.

    Parameters
    ----------
    image : array of shape (C, Y, X)
        Counts as the camera gave them, not corrected for illumination.
    channels : sequence of str
        Names of the C channels.
    full_scale : array-like of shape (C,)
        Largest value of the camera, counts; NaN where it is not known.
    background_percentile : float
        Percentile of the pixels, 0 to 100, that is taken for the background.

    Returns
    -------
    pd.DataFrame
        One row per channel: `Metadata_Channel`, `METRICS` (float64; all NaN for a plane with a pixel that is not
        finite) and `fingerprint` (text):

        - `focus_score`: lower when blurred, whatever the number of cells (`plateline.qc.focus.focus_score`).
        - `focus_slope`: slope of log power over log frequency, as CellProfiler's (`power_slope`). The fields of
          BBBC013, all in focus, have -1.7 to -1.1.
        - `focus_laplacian`, `focus_tenengrad`: variance of the Laplacian and mean squared Sobel gradient, over the
          variance of the image; fall with blur, rise with noise.
        - `saturation`: share of pixels at `full_scale` or above, NaN where that is not known.
        - `background`: the percentile, counts.
        - `background_gradient`: how far a plane fitted to the darkest blocks of 64 tiles rises and falls over the
          field, counts. NaN for fields of less than 32 pixels a side.
        - `foreground`: share of pixels above Otsu's threshold; 0 for a constant image.
        - `snr`: mean of the foreground minus median of the rest, over the rest's standard deviation estimated from its
          MAD, at least that of rounding to whole counts; NaN for a constant image, and where that deviation is 0.
        - `range`: 99.9th minus 0.1th percentile, counts.
        - `contrast`: the same of blocks of 4 x 4 pixels, over what the noise alone would give; 1 for pure noise
          whatever the camera, 0 for a constant image.
        - `debris_score`: of the connected bright objects the largest light times radius of gyration, counts above the
          median times pixels cubed. A fibre is longer than any cell, a grain brighter.
        - `fingerprint`: 32 hexadecimal digits; two planes of the same pixels have the same.
    """
    rows = [
        {
            "Metadata_Channel": channel,
            **_measure_plane(plane, largest, background_percentile),
            "fingerprint": _hash(plane),
        }
        for channel, plane, largest in zip(channels, image, np.asarray(full_scale, dtype=float), strict=True)
    ]
    table = pd.DataFrame(rows, columns=["Metadata_Channel", *METRICS, "fingerprint"])
    return table.astype(dict.fromkeys(METRICS, float))


def no_metrics() -> pd.DataFrame:
    """The metrics of a part without fields: all columns, no row."""
    return measure_field(np.zeros((0, 1, 1)), [], [], background_percentile=0).assign(acquired="", **NO_FIELD)


def _measure_plane(plane: npt.NDArray, full_scale: float, background_percentile: float) -> dict[str, float]:
    if not plane.size or (plane.dtype.kind == "f" and not np.isfinite(plane).all()):
        return dict.fromkeys(METRICS, np.nan)
    levels = levels_of(plane)
    low, background, high = (quantile(levels, percent / 100) for percent in (0.1, background_percentile, 99.9))
    foreground, snr = _foreground(plane, levels)
    blocks = _blocks(plane)
    bright = part(levels, levels.values >= full_scale).counts.sum()
    saturation = np.nan if np.isnan(full_scale) else float(bright / plane.size)
    focus = [focus_score(plane), power_slope(plane), laplacian(plane), tenengrad(plane)]
    level = [saturation, background, _gradient(blocks), foreground, snr, high - low]
    numbers = [*focus, *level, _contrast(plane, blocks), _debris(blocks)]
    return dict(zip(METRICS, map(float, numbers), strict=True))


def _hash(plane: npt.NDArray) -> str:
    """Digest of the pixels; their type and shape count."""
    digest = blake2b(f"{plane.dtype.str} {plane.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _blocks(plane: npt.NDArray) -> npt.NDArray[np.float64]:
    """Means of blocks of `_BLOCK` pixels a side; pixels beyond the last whole one are left out. The plane if small."""
    height, width = (side // _BLOCK for side in plane.shape)
    if not height * width:
        return plane.astype(np.float64)
    whole = plane[: height * _BLOCK, : width * _BLOCK]
    return whole.reshape(height, _BLOCK, width, _BLOCK).mean(axis=(1, 3), dtype=np.float64)


def _foreground(plane: npt.NDArray, levels: Levels) -> tuple[float, float]:
    """Share of pixels above Otsu's threshold, and how far they stand above the noise of the rest."""
    if len(levels.values) == 1:
        return 0.0, np.nan
    above = levels.values > _otsu(plane, levels)
    rest, bright = part(levels, ~above), part(levels, above)
    level = quantile(rest, 0.5)
    noise = max(_MAD_TO_SD * median_deviation(rest, level), _rounding(plane))
    snr = (mean(bright) - level) / noise if noise else np.nan
    return float(bright.counts.sum() / plane.size), float(snr)


def _otsu(plane: npt.NDArray, levels: Levels) -> float:
    """Otsu's threshold, of whole counts from their levels."""
    if plane.dtype.kind not in "iu":
        return float(threshold_otsu(plane))
    return float(threshold_otsu(hist=(levels.counts, levels.values)))


def _rounding(plane: npt.NDArray) -> float:
    """Least noise of whole counts: an 8-bit background may be one single value."""
    return _ROUNDING_SD if np.issubdtype(plane.dtype, np.integer) else 0.0


def _contrast(plane: npt.NDArray, blocks: npt.NDArray) -> float:
    """Span of the block means over the span that the noise, seen between neighbouring pixels, gives them."""
    low, high = np.percentile(blocks, [0.1, 99.9])
    height, width = (side // 2 * 2 for side in plane.shape)
    wide = np.int32 if plane.dtype.kind in "iu" and plane.dtype.itemsize <= 2 else np.float32
    a, b, c, d = (plane[y:height:2, x:width:2].astype(wide) for y in (0, 1) for x in (0, 1))
    # The mixed difference knows no level and no slope; its standard deviation is twice the noise's.
    mixed = np.abs(a - b - c + d) if a.size and d.size else np.zeros(1)
    if wide is np.int32 and mixed.max() < 2**16:
        mixed = mixed.astype(np.uint16)  # counting these is far faster than sorting
    noise = _MAD_TO_SD * quantile(levels_of(mixed), 0.5) / 2
    expected = _NOISE_SPAN * max(noise, _rounding(plane)) / _BLOCK
    if high == low:
        return 0.0
    return (high - low) / expected if expected else np.inf


def _gradient(blocks: npt.NDArray) -> float:
    """Rise plus fall over the field of a plane fitted to the dark blocks of each tile."""
    height, width = (side // _TILES for side in blocks.shape)
    if not height * width:
        return np.nan
    tiles = blocks[: height * _TILES, : width * _TILES].reshape(_TILES, height, _TILES, width)
    dark = np.percentile(tiles, _DARK, axis=(1, 3))  # (_TILES, _TILES)
    place = np.arange(_TILES) - (_TILES - 1) / 2
    rise = [(place @ dark.mean(axis)) / (place @ place) * _TILES for axis in (0, 1)]
    return abs(rise[0]) + abs(rise[1])


def _debris(blocks: npt.NDArray) -> float:
    """Largest light times radius of gyration of a connected bright object."""
    if blocks.min() == blocks.max():
        return 0.0
    # Halfway to the brightest: cells that touch fall apart there, and what outshines them stays whole.
    threshold = (threshold_otsu(blocks) + np.percentile(blocks, 99.9)) / 2
    bright, number = ndimage.label(blocks > threshold, np.ones((3, 3)))
    if not number:
        return 0.0
    y, x = np.nonzero(bright)
    objects, light = bright[y, x] - 1, blocks[y, x] - np.median(blocks)
    area = np.bincount(objects)
    spread = sum(np.bincount(objects, at**2) / area - (np.bincount(objects, at) / area) ** 2 for at in (y, x))
    # A block by itself has the radius of gyration of a square of its side.
    radius = np.sqrt(np.maximum(spread, 0) + 1 / 6) * _BLOCK
    return float((np.bincount(objects, light) * _BLOCK**2 * radius).max())
