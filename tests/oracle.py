"""CellProfiler's features by cp_measure, under our names, for the tests and the benchmark of measuring."""

import warnings
from itertools import combinations

import numpy as np
from cp_measure.core import (
    measurecolocalization,
    measuregranularity,
    measureobjectintensity,
    measureobjectintensitydistribution,
    measureobjectsizeshape,
    measuretexture,
)
from cp_measure.multimask.measureobjectneighbors import measureobjectneighbors

from plateline.measure.names import HARALICK

# Where they say infinity and we say NaN.
WITHOUT_PERIMETER = "AreaShape_FormFactor"


def number_from_one(labels):
    """The label image cp_measure wants: numbers without gaps."""
    numbers = np.unique(labels[labels > 0])
    return np.searchsorted(np.append(0, numbers), labels).astype(np.int32)


def measure_as_cellprofiler(image, labels, channels, settings, grid):
    """Features of the objects of a label image, name without compartment -> (n,), of the families of the settings.

    The image is float64 shares of full scale, (C, Y, X); the labels are numbered without gaps.
    """
    features = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if "AreaShape" in settings.families:
            features |= area_shape(labels)
        for channel, plane in zip(channels, image, strict=True):
            features |= one_channel(plane, labels, channel, settings)
        if "Correlation" in settings.families:
            for (a, first), (b, second) in combinations(enumerate(channels), 2):
                features |= two_channels(image[a], image[b], labels, (first, second), settings, grid)
        if "Neighbors" in settings.families and labels.max() > 2:
            for reach in settings.neighbors_px:
                features |= neighbors(labels, reach)
    return features


def area_shape(labels):
    module = measureobjectsizeshape
    found = module.get_sizeshape(labels, None) | module.get_zernike(labels, None) | module.get_feret(labels, None)
    found = {f"AreaShape_{name}": np.asarray(values, float) for name, values in found.items()}
    found[WITHOUT_PERIMETER] = np.where(np.isinf(found[WITHOUT_PERIMETER]), np.nan, found[WITHOUT_PERIMETER])
    return found


def one_channel(plane, labels, channel, settings):
    found = {}
    if {"Intensity", "Location"} & set(settings.families):
        table = measureobjectintensity.get_intensity(labels, plane, legacy=True)
        found |= {f"{name}_{channel}": values for name, values in table.items() if "_Z" not in name}
    if "Texture" in settings.families:
        for scale in settings.texture_scales:
            table = measuretexture.get_texture(labels, plane, scale, settings.texture_levels)
            for name, values in table.items():
                feature, *scales = name.split("_")
                assert feature in HARALICK
                found["_".join(["Texture", feature, channel, *scales])] = values
    if "Granularity" in settings.families:
        table = measuregranularity.get_granularity(
            labels,
            plane,
            settings.granularity_sampling,
            settings.granularity_background_sampling,
            settings.granularity_radius_px,
            settings.granularity_steps,
        )
        found |= {f"{name}_{channel}": values for name, values in table.items()}
    if "RadialDistribution" in settings.families:
        module = measureobjectintensitydistribution
        table = module.get_radial_distribution(labels, plane, bin_count=settings.radial_bins)
        table |= module.get_radial_zernikes(labels, plane)
        for name, values in table.items():
            family, feature, scales = name.split("_", 2)
            found[f"{family}_{feature}_{channel}_{scales}"] = values
    return found


def two_channels(first, second, labels, names, settings, grid):
    module, found = measurecolocalization, {}
    table = module.get_correlation_pearson(first, second, labels)
    for measure in (
        module.get_correlation_manders_fold,
        module.get_correlation_rwc,
        module.get_correlation_overlap,
    ):
        table |= measure(first, second, labels, thr=settings.correlation_threshold)
    if settings.costes:
        table |= module.get_correlation_costes(first, second, labels, scale_max=grid)
    for name, values in table.items():
        feature = name.split("_")[1].replace("Pearson", "Correlation")
        pair = names[::-1] if name.endswith("_2") else names
        found["_".join(["Correlation", feature, *pair])] = np.asarray(values)
    return found


def neighbors(labels, reach):
    method = "Within a specified distance" if reach else "Adjacent"
    table = measureobjectneighbors(labels, labels, method, reach or 1)
    return {name: values for name, values in table.items() if "ObjectNumber" not in name}


def assert_same(ours, theirs, rtol=1e-6):
    """Every column that both have, in the order of the objects; absolute where the true value is a rounding of zero."""
    shared = [name for name in ours if name in theirs]
    for name in shared:
        found, wanted = ours[name].to_numpy(), np.asarray(theirs[name], float)
        close = {"rtol": rtol, "atol": 1e-9 * (1 + np.nanmax(np.abs(wanted), initial=0))}
        if name == "AreaShape_Orientation":
            # Either end of the range is the same direction, and a round object has none.
            flat = ours["AreaShape_Eccentricity"].to_numpy() > 1e-3
            found, wanted = (np.exp(2j * np.radians(angle[flat])) for angle in (found, wanted))
        elif "ZernikePhase" in name:
            # A moment of zero has no phase, and both ends of the range are one.
            known = theirs[name.replace("Phase", "Magnitude")] > 1e-9
            found, wanted = (np.exp(1j * angle[known]) for angle in (found, wanted))
        elif "InfoMeas2" in name or "Granularity" in name:
            close["atol"] = 1e-7  # the root, or percent, of a difference that cancels
        np.testing.assert_allclose(found, wanted, err_msg=name, **close)
    return shared
