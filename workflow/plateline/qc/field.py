"""Measures of one field, channel by channel, on counts as the camera gave them."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pandas as pd
from skimage.filters import threshold_otsu

from plateline.identity import NO_FIELD
from plateline.qc.focus import Light, centred, edges, spectral_focus
from plateline.qc.kernels import BLOCK, block_means, mixed_differences
from plateline.qc.levels import Levels, levels_of, mean, median_deviation, part, quantile
from plateline.qc.objects import describe_objects, of_ranked

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
    "halo",
    "roundness",
]
_MAD_TO_SD = 1.4826
_ROUNDING_SD = 12**-0.5
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
        - `halo`: light just outside the bright objects (8 pixels around blocks above Otsu's threshold) over that
          inside, medians, both above the median of the rest. Nuclei end sharply. NaN for a constant image.
        - `roundness`: share of the bright blocks that lie in objects which fill the ellipse of their moments, as nuclei
          do. NaN without an object of 4 blocks.
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
    light = centred(plane, levels)
    low, background, high = (quantile(levels, percent / 100) for percent in (0.1, background_percentile, 99.9))
    foreground, snr = _foreground(plane, levels)
    blocks = _blocks(light)
    ranked = np.sort(blocks.astype(np.float32), axis=None).astype(np.float64)
    bright = part(levels, levels.values >= full_scale).counts.sum()
    saturation = np.nan if np.isnan(full_scale) else float(bright / plane.size)
    level = [saturation, background, _gradient(blocks), foreground, snr, high - low]
    contrast = _contrast(light, ranked, _rounding(plane))
    numbers = [*spectral_focus(light), *edges(light), *level, contrast, *describe_objects(blocks, ranked)]
    return dict(zip(METRICS, map(float, numbers), strict=True))


def _hash(plane: npt.NDArray) -> str:
    """Digest of the pixels; their type and shape count."""
    digest = sha256(f"{plane.dtype.str} {plane.shape}".encode())
    digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()[:32]


def _blocks(light: Light) -> npt.NDArray[np.float64]:
    """Means of whole blocks of `BLOCK` pixels a side; the plane if it is smaller than one."""
    return block_means(light.plane) if min(light.plane.shape) >= BLOCK else light.plane.astype(np.float64)


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


def _contrast(light: Light, ranked: npt.NDArray, rounding: float) -> float:
    """Span of the sorted block means over the span that the noise, seen between neighbouring pixels, gives them."""
    low, high = of_ranked(ranked, 0.001), of_ranked(ranked, 0.999)
    if high == low:
        return 0.0
    # The mixed difference knows no level and no slope; its standard deviation is twice the noise's.
    mixed = mixed_differences(light.plane)
    if rounding and mixed.max(initial=0) < 2**16:
        mixed = mixed.astype(np.uint16)  # counting whole numbers is far faster than sorting
    noise = _MAD_TO_SD * quantile(levels_of(mixed), 0.5) / 2 if mixed.size else 0.0
    expected = _NOISE_SPAN * max(noise, rounding) / BLOCK
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
