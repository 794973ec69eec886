"""Features of every cell of one field, under CellProfiler's names and by its definitions.

Owns what a feature is called and how it is computed, for the families `AreaShape`, `Intensity` and `Location`. A name
of CellProfiler's is used only for CellProfiler's definition; what it lacks has a name of our own. Pixels come as shares
of the camera's full scale; sizes and places are in pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ConfigError, ImageError, LabelError
from plateline.identity import NO_FIELD

# Label image -> prefix of its features.
PREFIXES = {"nuclei": "Nuclei", "cells": "Cells", "cytoplasm": "Cytoplasm"}
# Family -> names of its features, in order of column; those of Intensity and Location exist once per channel.
FAMILIES = {
    "AreaShape": (
        *("Area", "BoundingBoxArea", "BoundingBoxMinimum_X", "BoundingBoxMinimum_Y", "BoundingBoxMaximum_X"),
        *("BoundingBoxMaximum_Y", "Center_X", "Center_Y", "MajorAxisLength", "MinorAxisLength", "Eccentricity"),
        *("Orientation", "Extent", "EquivalentDiameter", "Perimeter", "FormFactor", "Compactness"),
    ),
    "Intensity": (
        *("IntegratedIntensity", "MeanIntensity", "StdIntensity", "MinIntensity", "MaxIntensity"),
        *("LowerQuartileIntensity", "MedianIntensity", "UpperQuartileIntensity", "MADIntensity", "MassDisplacement"),
    ),
    "Location": ("CenterMassIntensity_X", "CenterMassIntensity_Y"),
}

# Weights of the outline's pixels by 1 + 2 x (direct) + 10 x (diagonal neighbours on the outline); Benkrid and Crookes,
# as scikit-image's `perimeter`, which CellProfiler uses, has them.
_OUTLINE_WEIGHTS = np.zeros(50)
_OUTLINE_WEIGHTS[[5, 7, 15, 17, 25, 27]] = 1
_OUTLINE_WEIGHTS[[21, 33]] = np.sqrt(2)
_OUTLINE_WEIGHTS[[13, 23]] = (1 + np.sqrt(2)) / 2

Floats = npt.NDArray[np.float64]


class Pixels(NamedTuple):
    """Pixels of one compartment in raster order: place (P,), row of the table they count for (P,), rows, area (n,)."""

    flat: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    x: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    n: int
    area: Floats

    def sum(self, values: npt.NDArray) -> Floats:
        """Sums of values (P,) per row, (n,); 0 for a row without pixels."""
        return np.asarray(np.bincount(self.row, values, self.n), np.float64)


def measure_field(
    image: npt.NDArray[np.float32],
    labels: dict[str, npt.NDArray[np.int32]],
    channels: list[str],
    *,
    families: list[str],
) -> pd.DataFrame:
    """One row per nucleus: its number and the features of nucleus, cell and cytoplasm.

    Parameters
    ----------
    image : (C, Y, X) float32
        Corrected intensities as shares of full scale; may be below 0 and above 1.
    labels : dict of str to (Y, X) int32
        ``nuclei``, ``cells`` and ``cytoplasm``; the same number is the same cell. Numbers without a nucleus are not
        measured.
    channels : list of str
        Names of the C channels, distinct.
    families : list of str
        Keys of `FAMILIES`, in any order.

    Returns
    -------
    pd.DataFrame
        ``Metadata_ObjectNumber`` (int64), the numbers found in ``nuclei``, rising, gaps kept; then `feature_names`
        (float64). Without nuclei an empty table with the same columns.

    Raises
    ------
    ConfigError
        If a family is unknown.
    ImageError
        If the image is not one plane per channel name, or names repeat.
    LabelError
        If a compartment is missing or has not the image's height and width.

    Notes
    -----
    AreaShape and Location are in pixels counted from 0, Orientation in degrees from -90 to 90 between the y axis and
    the major axis. The maximum of a bounding box is one past the object. NaN stands where a cell has no pixel in the
    compartment, where a centre of mass has no mass, and for every intensity of an object with a pixel that is not
    finite. FormFactor is NaN where the perimeter is 0 (one to few pixels).

    ``Cells_Intensity_NucleiCytoplasmLog2Ratio_{channel}`` is ours: log2 of the nucleus' mean over the cytoplasm's mean;
    NaN unless both are above 0.

    References
    ----------
    Stirling et al. 2021, doi:10.1186/s12859-021-04344-9 (CellProfiler 4: MeasureObjectSizeShape,
    MeasureObjectIntensity).
    """
    names = feature_names(channels, families)
    _check(image, labels, channels)
    numbers = np.unique(labels["nuclei"])
    numbers = numbers[numbers > 0]
    columns: dict[str, npt.NDArray] = {"Metadata_ObjectNumber": numbers.astype(np.int64)}
    for compartment, prefix in PREFIXES.items():
        pixels = _pixels(labels[compartment], numbers)
        if "AreaShape" in families:
            columns |= _named(_area_shape(pixels, labels[compartment]), f"{prefix}_AreaShape_", "")
        for channel, plane in zip(channels, image, strict=True):
            values = plane.ravel()[pixels.flat]
            for family, compute in _PER_CHANNEL.items():
                if family in families:
                    columns |= _named(compute(pixels, values), f"{prefix}_{family}_", f"_{channel}")
    if "Intensity" in families:
        columns |= {_ratio_name(channel): _log2_ratio(columns, channel) for channel in channels}
    return pd.DataFrame({name: columns[name] for name in ["Metadata_ObjectNumber", *names]})


def no_cells(channels: list[str], families: list[str]) -> pd.DataFrame:
    """The features of a part without cells: all columns, no row."""
    nothing = dict.fromkeys(PREFIXES, np.zeros((1, 1), np.int32))
    image = np.zeros((len(channels), 1, 1), np.float32)
    return measure_field(image, nothing, channels, families=families).assign(**NO_FIELD)


def to_full_scale(
    image: npt.NDArray[np.float32], channels: list[str], full_scale: dict[str, float], *, default: float
) -> npt.NDArray[np.float32]:
    """Corrected counts as shares of full scale.

    Parameters
    ----------
    image : (C, Y, X) float32
    channels : list of str
        Names of the C channels.
    full_scale : dict of str to float
        Counts that become 1, by channel.
    default : float
        For the channels not named: the largest value of the camera.
    """
    counts = np.array([full_scale.get(channel, default) for channel in channels], np.float32)
    return image / counts[:, None, None]


def feature_names(channels: list[str], families: list[str]) -> list[str]:
    """Names of the features, in order of column; the order of `families` does not matter.

    Raises
    ------
    ConfigError
        If a family is unknown.
    """
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        msg = f"measure.families: unknown family {unknown[0]!r}; expected some of {', '.join(FAMILIES)}"
        raise ConfigError(msg)
    names = []
    for prefix in PREFIXES.values():
        for family in (family for family in FAMILIES if family in families):
            endings = [""] if family == "AreaShape" else [f"_{channel}" for channel in channels]
            names += [f"{prefix}_{family}_{feature}{ending}" for ending in endings for feature in FAMILIES[family]]
    return names + [_ratio_name(channel) for channel in channels if "Intensity" in families]


def _check(image: npt.NDArray, labels: dict[str, npt.NDArray], channels: list[str]) -> None:
    """Refuse an image that does not match its channel names, and labels that do not match the image."""
    if image.ndim != 3 or image.shape[0] != len(channels) or len(set(channels)) != len(channels):
        msg = f"image to measure has shape {image.shape} for channels {channels}; expected one (y, x) plane per name"
        raise ImageError(msg)
    for compartment in PREFIXES:
        found = labels[compartment].shape if compartment in labels else "missing"
        if found != image.shape[1:]:
            msg = (
                f"{compartment} labels do not fit the image to measure: shape {found}; expected {image.shape[1:]}; "
                "rerun rule segment_part"
            )
            raise LabelError(msg)


def _pixels(labels: npt.NDArray[np.int32], numbers: npt.NDArray[np.int32]) -> Pixels:
    """Pixels of the objects that have a number in `numbers` (rising)."""
    flat = np.flatnonzero(labels)
    found = labels.ravel()[flat]
    row = np.searchsorted(numbers, found)
    known = np.append(numbers, 0)[row] == found
    flat, row = flat[known], row[known]
    y, x = np.divmod(flat, labels.shape[1])
    return Pixels(flat, y, x, row, numbers.size, _or_nan(np.bincount(row, minlength=numbers.size)))


def _area_shape(pixels: Pixels, labels: npt.NDArray[np.int32]) -> dict[str, Floats]:
    """Size and shape of each object."""
    area, box = pixels.area, _boxes(pixels)
    center_y, center_x = pixels.sum(pixels.y) / area, pixels.sum(pixels.x) / area
    major, minor, eccentricity, orientation = _ellipse(pixels, center_y, center_x)
    box_area = (box[2] - box[0]) * (box[3] - box[1])
    perimeter = np.where(area > 0, _perimeter(pixels, labels), np.nan)
    values = (
        *(area, box_area, box[1], box[0], box[3], box[2], center_x, center_y),
        *(major, minor, eccentricity, orientation),
        *(area / box_area, np.sqrt(4 * area / np.pi), perimeter),
        *(4 * np.pi * area / _or_nan(perimeter) ** 2, perimeter**2 / (4 * np.pi * area)),
    )
    return dict(zip(FAMILIES["AreaShape"], values, strict=True))


def _boxes(pixels: Pixels) -> Floats:
    """First y, first x, one past the last y and x of each object, (4, n)."""
    box = np.full((4, pixels.n), np.nan)
    for first, last, place in ((0, 2, pixels.y), (1, 3, pixels.x)):
        np.fmin.at(box[first], pixels.row, place)
        np.fmax.at(box[last], pixels.row, place + 1)
    return box


def _ellipse(pixels: Pixels, center_y: Floats, center_x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Major and minor axis, eccentricity and orientation of the ellipse with the object's second moments."""
    dy, dx = pixels.y - center_y[pixels.row], pixels.x - center_x[pixels.row]
    yy, xx, xy = (pixels.sum(product) / pixels.area for product in (dy * dy, dx * dx, dx * dy))
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    long, short = middle + half, np.maximum(middle - half, 0)
    flatness = np.divide(short, long, out=np.where(np.isnan(long), np.nan, 1.0), where=long > 0)
    # A round object has no direction; scikit-image, and so CellProfiler, says -45 degrees.
    angle = np.where((yy == xx) & (xy == 0), -np.pi / 4, np.arctan2(2 * xy, yy - xx) / 2)
    return 4 * np.sqrt(long), 4 * np.sqrt(short), np.sqrt(1 - flatness), np.degrees(angle)


def _perimeter(pixels: Pixels, labels: npt.NDArray[np.int32]) -> Floats:
    """Length of each object's outline, of its holes too; the field's edge counts as outline."""
    width = labels.shape[1] + 2
    padded = np.pad(labels, 1).ravel()
    place = (pixels.y + 1) * width + pixels.x + 1
    own, direct, diagonal = padded[place], (-width, -1, 1, width), (-width - 1, 1 - width, width - 1, width + 1)
    edge = np.logical_or.reduce([padded[place + step] != own for step in direct])
    place, own, row = place[edge], own[edge], pixels.row[edge]
    outline = np.zeros_like(padded)
    outline[place] = own
    near, far = (sum((outline[place + step] == own).astype(int) for step in steps) for steps in (direct, diagonal))
    return pixels._replace(row=row).sum(_OUTLINE_WEIGHTS[1 + 2 * near + 10 * far])


def _intensity(pixels: Pixels, values: npt.NDArray[np.float32]) -> dict[str, Floats]:
    """Intensities of each object in one channel."""
    integrated, values = _integrated(pixels, values)
    mean = integrated / pixels.area
    std = np.sqrt(pixels.sum((values - mean[pixels.row]) ** 2) / pixels.area)
    ordered = _ordered(pixels, values)
    lowest, lower, median, upper, highest = (_quantile(ordered, pixels, share) for share in (0, 0.25, 0.5, 0.75, 1))
    mad = _quantile(_ordered(pixels, np.abs(values - median[pixels.row])), pixels, 0.5)
    mass_x, mass_y = _location(pixels, values).values()
    shift = np.hypot(pixels.sum(pixels.x) / pixels.area - mass_x, pixels.sum(pixels.y) / pixels.area - mass_y)
    computed = (integrated, mean, std, lowest, highest, lower, median, upper, mad, shift)
    known = (np.where(np.isnan(mean), np.nan, value) for value in computed)
    return dict(zip(FAMILIES["Intensity"], known, strict=True))


def _location(pixels: Pixels, values: npt.NDArray[np.float32]) -> dict[str, Floats]:
    """Centre of mass of each object in one channel."""
    integrated, values = _integrated(pixels, values)
    mass = _or_nan(integrated)
    centers = (pixels.sum(place * values) / mass for place in (pixels.x, pixels.y))
    return dict(zip(FAMILIES["Location"], centers, strict=True))


def _integrated(pixels: Pixels, values: npt.NDArray[np.float32]) -> tuple[Floats, npt.NDArray[np.float32]]:
    """Sum of each object, NaN where a pixel is not finite; and the values, 0 in such objects."""
    finite = pixels.sum(~np.isfinite(values)) == 0
    values = np.where(finite[pixels.row], values, np.float32(0))
    return np.where(finite & (pixels.area > 0), pixels.sum(values), np.nan), values


_PER_CHANNEL: dict[str, Callable[[Pixels, npt.NDArray[np.float32]], dict[str, Floats]]] = {
    "Intensity": _intensity,
    "Location": _location,
}


def _ordered(pixels: Pixels, values: npt.NDArray) -> npt.NDArray[np.float32]:
    """Values sorted within each object, objects in order of row."""
    # One integer per pixel, row above value, sorts several times faster than lexsort. The bits of a float rise with it
    # once the sign bit of positive and all bits of negative numbers are flipped.
    bits = np.asarray(values, np.float32).view(np.uint32)
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    keys = pixels.row.astype(np.uint64) << np.uint64(32) | rising
    keys.sort()
    rising = keys.astype(np.uint32)
    return np.where(rising >> 31, rising & np.uint32((1 << 31) - 1), ~rising).view(np.float32)


def _quantile(ordered: npt.NDArray[np.float32], pixels: Pixels, share: float) -> Floats:
    """CellProfiler's quantile: between the sorted values at and after `share` times the area."""
    found = np.flatnonzero(pixels.area > 0)
    area = pixels.area[found].astype(np.int64)
    last = np.cumsum(area) - 1
    place = last + 1 - area + area * share
    at = np.minimum(place.astype(np.int64), last)
    after = np.minimum(at + 1, last)
    weight = place - np.floor(place)
    quantile = np.full(pixels.n, np.nan)
    quantile[found] = ordered[at].astype(np.float64) * (1 - weight) + ordered[after].astype(np.float64) * weight
    return quantile


def _log2_ratio(columns: dict[str, npt.NDArray], channel: str) -> Floats:
    """Log2 of the nucleus' mean over the cytoplasm's mean; NaN unless both are above 0."""
    nucleus, cytoplasm = (columns[f"{part}_Intensity_MeanIntensity_{channel}"] for part in ("Nuclei", "Cytoplasm"))
    ratio = np.full(nucleus.size, np.nan)
    defined = (nucleus > 0) & (cytoplasm > 0)
    ratio[defined] = np.log2(nucleus[defined] / cytoplasm[defined])
    return ratio


def _ratio_name(channel: str) -> str:
    return f"Cells_Intensity_NucleiCytoplasmLog2Ratio_{channel}"


def _named(values: dict[str, Floats], start: str, end: str) -> dict[str, Floats]:
    """The same columns with their full names."""
    return {f"{start}{name}{end}": column for name, column in values.items()}


def _or_nan(values: npt.NDArray) -> Floats:
    """The values, NaN instead of 0: what they divide is then NaN, without a warning."""
    return np.where(values == 0, np.nan, values)
