"""Image quality of every field and channel: measures of one field, then flags against its plate.

Owns what a bad image is. The measures need one field, on counts as the camera gave them; the flags need the plate,
so that a threshold never re-reads a pixel. A flag is a suspicion with its numbers beside it, not an exclusion.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import fft, ndimage
from skimage.filters import threshold_otsu

from plateline.identity import NO_FIELD

METRICS = [
    "focus_slope",
    "focus_laplacian",
    "saturation",
    "background",
    "foreground",
    "snr",
    "range",
]
FLAGS = ["blank", "blurred", "saturated"]
# Median and MAD of fewer fields say little about what a sharp field of this plate looks like.
MIN_FIELDS = 8
_MAD_TO_SD = 1.4826
_ROUNDING_SD = 12**-0.5


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
        One row per channel, `Metadata_Channel` and `METRICS` (float64; all NaN for a plane with a pixel that is not
        finite):

        - `focus_slope`: slope of log power over log frequency; lower when blurred (`power_slope`). The fields of
          BBBC013, all in focus, have -1.7 to -1.1.
        - `focus_laplacian`: variance of the Laplacian over the squared mean; falls with blur. NaN for mean 0.
        - `saturation`: share of pixels at `full_scale` or above, NaN where that is not known.
        - `background`: the percentile, counts.
        - `foreground`: share of pixels above Otsu's threshold; 0 for a constant image.
        - `snr`: mean of the foreground minus median of the rest, over the rest's standard deviation estimated from its
          MAD, at least that of rounding to whole counts; NaN for a constant image.
        - `range`: 99.9th minus 0.1th percentile, counts.
    """
    rows = [
        {"Metadata_Channel": channel, **_measure_plane(plane, largest, background_percentile)}
        for channel, plane, largest in zip(channels, image, np.asarray(full_scale, dtype=float), strict=True)
    ]
    return pd.DataFrame(rows, columns=["Metadata_Channel", *METRICS]).astype(dict.fromkeys(METRICS, float))


def no_metrics() -> pd.DataFrame:
    """The metrics of a part without fields: all columns, no row."""
    return measure_field(np.zeros((0, 1, 1)), [], [], background_percentile=0).assign(**NO_FIELD)


def power_slope(plane: npt.NDArray) -> float:
    """Slope of log radial power over log spatial frequency of one image.

    Parameters
    ----------
    plane : array of shape (Y, X)
        Counts; at least 32 pixels a side.

    Returns
    -------
    float
        Power is summed over rings of one cycle per shorter side, from 2 cycles to an eighth of that side, and a line
        fitted by least squares, as CellProfiler's PowerLogLogSlope does. It does not depend on gain or offset. NaN if
        the image is constant, too small, or has an empty ring.

    References
    ----------
    Bray et al. (2012), https://doi.org/10.1177/1087057111420292; Field (1987),
    https://doi.org/10.1364/JOSAA.4.002379.
    """
    short = min(plane.shape)
    radii = np.arange(2, short // 8)
    if len(radii) < 2 or plane.min() == plane.max():
        return np.nan
    power = np.abs(fft.rfft2(plane - plane.mean(dtype=np.float64))) ** 2
    # The half spectrum leaves out the mirror images of all columns but that of frequency 0.
    power[:, 1:] *= 2
    # Cycles per shorter side.
    ring = np.hypot(*np.meshgrid(fft.fftfreq(plane.shape[0]), fft.rfftfreq(plane.shape[1]), indexing="ij")) * short
    sums = np.bincount(ring.astype(int).ravel(), power.ravel())[radii]
    return float(np.polyfit(np.log(radii), np.log(sums), 1)[0]) if (sums > 0).all() else np.nan


def flag_fields(
    metrics: pd.DataFrame, *, blurred_z: float, saturated_fraction: float, blank_range: float
) -> pd.DataFrame:
    """Rows of `measure_field` with what is wrong with them.

    Parameters
    ----------
    metrics : pd.DataFrame
        Any number of fields and plates: `Metadata_Plate`, `Metadata_Channel`, `METRICS` and further identity.
    blurred_z : float
        A field is blurred if its `focus_slope` lies more than this many robust standard deviations (MAD * 1.4826)
        below the median of its plate and channel, and its `focus_laplacian` below that median too: a field of few cells
        has a steep spectrum, but not a smooth one.
    saturated_fraction : float
        A field is saturated if a larger share of its pixels is.
    blank_range : float
        A field is blank if its `range`, counts, is not above this.

    Returns
    -------
    pd.DataFrame
        Same rows, order and index; bool columns `FLAGS` and the text `flags`, their names joined by ``|``.

    Notes
    -----
    Blank fields are never blurred and do not enter the medians. Nothing is blurred in a plate and channel with fewer
    than `MIN_FIELDS` fields or a MAD of 0, and a plate out of focus as a whole has no blurred fields. NaN: a field of
    unknown range is blank, one of unknown saturation is not saturated, one of unknown focus is not blurred.
    """
    blank = ~(metrics["range"] > blank_range)
    groups = [metrics["Metadata_Plate"], metrics["Metadata_Channel"]]
    slope, laplacian = (metrics[column].mask(blank) for column in ("focus_slope", "focus_laplacian"))
    deviation = slope - slope.groupby(groups).transform("median")
    spread = _MAD_TO_SD * deviation.abs().groupby(groups).transform("median")
    # A spread of 0 becomes NaN, below which nothing lies.
    spread = spread.mask((spread == 0) | (slope.groupby(groups).transform("count") < MIN_FIELDS))
    blurred = (deviation < -blurred_z * spread) & (laplacian < laplacian.groupby(groups).transform("median"))
    flagged = metrics.assign(blank=blank, blurred=blurred, saturated=metrics["saturation"] > saturated_fraction)
    rows = flagged[FLAGS].to_numpy(dtype=bool)
    texts = ["|".join(flag for flag, is_set in zip(FLAGS, row, strict=True) if is_set) for row in rows]
    return flagged.assign(flags=pd.Series(texts, index=flagged.index, dtype=object))


def _measure_plane(plane: npt.NDArray, full_scale: float, background_percentile: float) -> dict[str, float]:
    if not np.isfinite(plane).all():
        return dict.fromkeys(METRICS, np.nan)
    low, background, high = np.percentile(plane, [0.1, background_percentile, 99.9])
    foreground, snr = _foreground(plane)
    saturation = np.nan if np.isnan(full_scale) else float(np.mean(plane >= full_scale))
    numbers = [power_slope(plane), _laplacian(plane), saturation, background, foreground, snr, high - low]
    return dict(zip(METRICS, map(float, numbers), strict=True))


def _laplacian(plane: npt.NDArray) -> float:
    """Variance of the Laplacian over the squared mean, so that exposure does not read as focus."""
    mean = plane.mean(dtype=np.float64)
    return float(ndimage.laplace(plane.astype(np.float32)).var(dtype=np.float64) / mean**2) if mean else np.nan


def _foreground(plane: npt.NDArray) -> tuple[float, float]:
    """Share of pixels above Otsu's threshold, and how far they stand above the noise of the rest."""
    if plane.min() == plane.max():
        return 0.0, np.nan
    above = plane > threshold_otsu(plane)
    rest = plane[~above].astype(np.float64)
    level = np.median(rest)
    # An 8-bit background may be one single value: its noise is then that of rounding to whole counts.
    noise = max(_MAD_TO_SD * np.median(np.abs(rest - level)), _ROUNDING_SD)
    return float(above.mean()), float((plane[above].mean(dtype=np.float64) - level) / noise)
