"""What is measured and what it is called: the settings of the stage, and the names they lead to.

Owns the order of all columns; the functions of the families return their rows in this order. Imports no library, since
the main process of every run reads the names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from plateline.errors import ConfigError

# Label image -> prefix of its features.
PREFIXES = {"nuclei": "Nuclei", "cells": "Cells", "cytoplasm": "Cytoplasm"}
ZERNIKES = [(n, m) for n in range(10) for m in range(n % 2, n + 1, 2)]
SPATIAL = [(p, q) for p in range(3) for q in range(4)]
# Without the first central moments, which are 0, and the normalized ones below order 2, which have no value.
CENTRAL = [(p, q) for p, q in SPATIAL if p + q != 1]
NORMALIZED = [(p, q) for p in range(4) for q in range(4) if p + q >= 2]
AREA_SHAPE = (
    *("Area", "BoundingBoxArea", "BoundingBoxMinimum_X", "BoundingBoxMinimum_Y", "BoundingBoxMaximum_X"),
    *("BoundingBoxMaximum_Y", "Center_X", "Center_Y", "MajorAxisLength", "MinorAxisLength", "Eccentricity"),
    *("Orientation", "Extent", "EquivalentDiameter", "Perimeter", "FormFactor", "Compactness"),
    *("ConvexArea", "Solidity", "EulerNumber", "MaximumRadius", "MeanRadius", "MedianRadius"),
    *("MinFeretDiameter", "MaxFeretDiameter"),
    *(f"SpatialMoment_{p}_{q}" for p, q in SPATIAL),
    *(f"CentralMoment_{p}_{q}" for p, q in CENTRAL),
    *(f"NormalizedMoment_{p}_{q}" for p, q in NORMALIZED),
    *(f"HuMoment_{k}" for k in range(7)),
    *(f"InertiaTensor_{p}_{q}" for p in range(2) for q in range(2)),
    *("InertiaTensorEigenvalues_0", "InertiaTensorEigenvalues_1"),
    *(f"Zernike_{n}_{m}" for n, m in ZERNIKES),
)
INTENSITY = (
    *("IntegratedIntensity", "MeanIntensity", "StdIntensity", "MinIntensity", "MaxIntensity"),
    *("LowerQuartileIntensity", "MedianIntensity", "UpperQuartileIntensity", "MADIntensity", "MassDisplacement"),
    *("IntegratedIntensityEdge", "MeanIntensityEdge", "StdIntensityEdge", "MinIntensityEdge", "MaxIntensityEdge"),
)
HARALICK = (
    *("AngularSecondMoment", "Contrast", "Correlation", "Variance", "InverseDifferenceMoment", "SumAverage"),
    *("SumVariance", "SumEntropy", "Entropy", "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2"),
)
RINGS = ("FracAtD", "MeanFrac", "RadialCV")
# Each stands once for a pair of channels, or, where it differs, once for either order of the pair.
PAIRS = (("Correlation", 1), ("Slope", 1), ("Overlap", 1), ("K", 2), ("Manders", 2), ("RWC", 2))
NEIGHBORS = (
    *("NumberOfNeighbors", "PercentTouching", "FirstClosestDistance", "SecondClosestDistance"),
    "AngleBetweenNeighbors",
)
LOCATION = ("CenterMassIntensity_X", "CenterMassIntensity_Y", "MaxIntensity_X", "MaxIntensity_Y")


@dataclass(frozen=True)
class Settings:
    """The section `measure` of the config; `config/README.md` explains each key."""

    families: Sequence[str]
    skip_channels: Sequence[str]
    full_scale: dict[str, float]
    texture_scales: Sequence[int]
    texture_levels: int
    texture_directions: Sequence[int]
    granularity_sampling: float
    granularity_background_sampling: float
    granularity_radius_px: int
    granularity_steps: int
    radial_bins: int
    correlation_threshold: float
    costes: bool
    neighbors_px: Sequence[int]


def feature_names(channels: Sequence[str], settings: Settings) -> list[str]:
    """Names of the features of a cell, in order of column; the order of `families` does not matter.

    Parameters
    ----------
    channels : sequence of str
        Names of the channels of the images, distinct.
    settings : Settings
        Of the stage.

    Raises
    ------
    ConfigError
        If a family is unknown.
    """
    unknown = [family for family in settings.families if family not in FAMILIES]
    if unknown:
        msg = f"measure.families: unknown family {unknown[0]!r}; expected some of {', '.join(FAMILIES)}"
        raise ConfigError(msg)
    measured = measured_channels(channels, settings)
    names = []
    for compartment in PREFIXES:
        for family in families_of(compartment, settings):
            names += names_of(compartment, family, measured, settings)
    return names + [ratio_name(channel) for channel in measured if "Intensity" in settings.families]


def measured_channels(channels: Sequence[str], settings: Settings) -> list[str]:
    """The channels that are not switched off, in order."""
    return [channel for channel in channels if channel not in settings.skip_channels]


def families_of(compartment: str, settings: Settings) -> list[str]:
    """Families measured on a compartment, in order of column; cytoplasms have no neighbours of their own."""
    families = [family for family in FAMILIES if family in settings.families]
    return [family for family in families if compartment != "cytoplasm" or family != "Neighbors"]


def names_of(compartment: str, family: str, channels: Sequence[str], settings: Settings) -> list[str]:
    """Names of one family on one compartment, in order of column."""
    return [f"{PREFIXES[compartment]}_{family}_{ending}" for ending in FAMILIES[family](channels, settings)]


def ratio_name(channel: str) -> str:
    """Name of our own log2 of the nucleus' mean over the cytoplasm's mean."""
    return f"Cells_Intensity_NucleiCytoplasmLog2Ratio_{channel}"


def _area_shape(channels: Sequence[str], settings: Settings) -> list[str]:
    return list(AREA_SHAPE)


def _intensity(channels: Sequence[str], settings: Settings) -> list[str]:
    return [f"{feature}_{channel}" for channel in channels for feature in INTENSITY]


def _texture(channels: Sequence[str], settings: Settings) -> list[str]:
    return [
        f"{feature}_{channel}_{scale}_{direction:02d}_{settings.texture_levels}"
        for channel in channels
        for scale in settings.texture_scales
        for direction in settings.texture_directions
        for feature in HARALICK
    ]


def _granularity(channels: Sequence[str], settings: Settings) -> list[str]:
    return [f"{step}_{channel}" for channel in channels for step in range(1, settings.granularity_steps + 1)]


def _radial(channels: Sequence[str], settings: Settings) -> list[str]:
    bins = settings.radial_bins
    names = []
    for channel in channels:
        names += [f"{feature}_{channel}_{ring}of{bins}" for feature in RINGS for ring in range(1, bins + 1)]
        names += [f"ZernikeMagnitude_{channel}_{n}_{m}" for n, m in ZERNIKES]
        # The others' phase is a right angle by definition: they have no imaginary part.
        names += [f"ZernikePhase_{channel}_{n}_{m}" for n, m in ZERNIKES if m]
    return names


def _correlation(channels: Sequence[str], settings: Settings) -> list[str]:
    features = (*PAIRS, ("Costes", 2)) if settings.costes else PAIRS
    return [
        f"{feature}_{first}_{second}"
        for pair in combinations(channels, 2)
        for feature, orders in features
        for first, second in (pair, pair[::-1])[:orders]
    ]


def _neighbors(channels: Sequence[str], settings: Settings) -> list[str]:
    ends = ["Adjacent" if reach == 0 else str(reach) for reach in settings.neighbors_px]
    return [f"{feature}_{end}" for end in ends for feature in NEIGHBORS]


def _location(channels: Sequence[str], settings: Settings) -> list[str]:
    return ["Center_X", "Center_Y", *(f"{feature}_{channel}" for channel in channels for feature in LOCATION)]


# Family -> its names, in order of column.
FAMILIES = {
    "AreaShape": _area_shape,
    "Intensity": _intensity,
    "Texture": _texture,
    "Granularity": _granularity,
    "RadialDistribution": _radial,
    "Correlation": _correlation,
    "Neighbors": _neighbors,
    "Location": _location,
}
