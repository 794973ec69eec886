"""All families on all compartments of one field, in one table.

Owns how channels, compartments and families become columns, and what is told of cells that could not be measured. This
is where numba is imported: `plateline.measure` comes here only when it measures.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ImageError, LabelError
from plateline.measure.area_shape import measure_area_shape
from plateline.measure.correlation import measure_correlation
from plateline.measure.granularity import Spectrum, measure_granularity, open_field
from plateline.measure.intensity import measure_intensity
from plateline.measure.links import LINKS, link_parents
from plateline.measure.location import measure_location
from plateline.measure.names import PREFIXES, Settings, families_of, feature_names, measured_channels
from plateline.measure.neighbors import measure_neighbors
from plateline.measure.pixels import Floats, Pixels, Values, list_pixels, take_values
from plateline.measure.radial import measure_radial
from plateline.measure.texture import count_clipped, measure_texture

NUMBER = "Metadata_ObjectNumber"


def measure(
    image: npt.NDArray,
    labels: dict[str, npt.NDArray[np.int32]],
    channels: Sequence[str],
    full_scale: Sequence[float],
    settings: Settings,
) -> tuple[pd.DataFrame, list[tuple[str, str, int]]]:
    """The table of cells and the notes, unit, reason and count, of one field; see `plateline.measure.measure_field`."""
    names = feature_names(channels, settings)
    _check(image, labels, channels, full_scale)
    kept = measured_channels(channels, settings)
    places = [channels.index(channel) for channel in kept]
    scales = np.array([full_scale[place] for place in places], np.float32)
    shares = image[places].astype(np.float32) / scales[:, None, None]
    numbers = np.unique(labels["nuclei"])
    numbers = numbers[numbers > 0].astype(np.int32)
    pixels = {compartment: list_pixels(labels[compartment], numbers) for compartment in PREFIXES}
    spectrum = open_field(shares, settings) if "Granularity" in settings.families else None
    found, notes = [], []
    for compartment, listed in pixels.items():
        values = take_values(listed, shares)
        families = families_of(compartment, settings)
        found.append(measure_objects(listed, values, spectrum, scales.tolist(), settings, families))
        notes += _notes(listed, values, compartment, kept, settings)
    features = np.concatenate(found)
    if "Intensity" in settings.families and kept:
        features = np.vstack([features, *_log2_ratios(dict(zip(names, features, strict=False)), kept)])
    table = pd.DataFrame(features.T, columns=names)
    links = _links(pixels, numbers)
    told = [note for note in notes if note[2]]
    return pd.concat([pd.DataFrame({NUMBER: numbers.astype(np.int64)} | links), table], axis=1), told


def measure_objects(
    pixels: Pixels,
    values: Values,
    spectrum: Spectrum | None,
    full_scale: Sequence[float],
    settings: Settings,
    families: Sequence[str],
) -> Floats:
    """Features of the families on one compartment, (F, n), in the order of the names; NaN where no pixel is."""
    intensity, places = measure_intensity(pixels, values)
    measure_family: dict[str, Callable[[], Floats]] = {
        "AreaShape": partial(measure_area_shape, pixels),
        "Intensity": lambda: intensity,
        "Texture": partial(measure_texture, pixels, values, settings),
        "Granularity": partial(measure_granularity, pixels, intensity[:, 1], spectrum, settings.granularity_steps),
        "RadialDistribution": partial(measure_radial, pixels, values, bins=settings.radial_bins),
        "Correlation": partial(measure_correlation, pixels, values, full_scale, settings),
        "Neighbors": partial(measure_neighbors, pixels, settings.neighbors_px),
        "Location": partial(measure_location, pixels, places),
    }
    found = [np.empty((0, pixels.n)), *(_flat(measure_family[family](), pixels.n) for family in families)]
    features = np.concatenate(found)
    features[:, pixels.area == 0] = np.nan
    return features


def _flat(features: Floats, n: int) -> Floats:
    """One row per feature; the size is spelt out since nothing can be inferred from no object."""
    return features.reshape(int(np.prod(features.shape[:-1])), n)


def _check(
    image: npt.NDArray, labels: dict[str, npt.NDArray], channels: Sequence[str], full_scale: Sequence[float]
) -> None:
    """Refuse an image that does not match its channel names, and labels that do not match the image."""
    one_each = len(channels) == len(set(channels)) == len(full_scale)
    if image.ndim != 3 or image.shape[0] != len(channels) or not one_each:
        msg = (
            f"image to measure has shape {image.shape} for channels {list(channels)} with full scales "
            f"{list(full_scale)}; expected one (y, x) plane and one scale per name"
        )
        raise ImageError(msg)
    for compartment in PREFIXES:
        found = labels[compartment].shape if compartment in labels else "missing"
        if found != image.shape[1:]:
            msg = (
                f"{compartment} labels do not fit the image to measure: shape {found}; expected {image.shape[1:]}; "
                "rerun rule segment_part"
            )
            raise LabelError(msg)
        if labels[compartment].dtype.kind not in "iu":
            dtype = labels[compartment].dtype
            msg = f"{compartment} labels have dtype {dtype}; expected whole numbers; rerun rule segment_part"
            raise LabelError(msg)


def _log2_ratios(features: dict[str, Floats], channels: list[str]) -> list[Floats]:
    """Log2 of the nucleus' mean over the cytoplasm's mean per channel, (C, n); NaN unless both are above 0."""
    ratios = []
    for channel in channels:
        nucleus, cytoplasm = (features[f"{part}_Intensity_MeanIntensity_{channel}"] for part in ("Nuclei", "Cytoplasm"))
        light = (nucleus > 0) & (cytoplasm > 0)
        ratios.append(np.full(nucleus.size, np.nan))
        ratios[-1][light] = np.log2(nucleus[light] / cytoplasm[light])
    return ratios


def _links(pixels: dict[str, Pixels], numbers: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[np.int64]]:
    """Number of each object's parent, 0 for none, and of its children."""
    columns = {}
    for child, parent in LINKS:
        rows = link_parents(pixels[child], pixels[parent])
        columns[f"Metadata_{PREFIXES[child]}_Parent_{PREFIXES[parent]}"] = np.append(0, numbers).astype(np.int64)[rows]
        count = np.bincount(rows, minlength=len(numbers) + 1)[1:]
        columns[f"Metadata_{PREFIXES[parent]}_Children_{PREFIXES[child]}_Count"] = count
    return columns


def _notes(
    pixels: Pixels, values: Values, compartment: str, channels: list[str], settings: Settings
) -> list[tuple[str, str, int]]:
    """Unit, reason and number of what could not be measured as it is."""
    empty = pixels.area == 0
    notes = [("cells", f"no pixel in {compartment}: NaN there", int(empty.sum()))]
    for channel, known in zip(channels, values.known, strict=True):
        notes.append(
            ("cells", f"pixels of {compartment} not finite in {channel}: NaN there", int((~known & ~empty).sum()))
        )
    if "Texture" in settings.families:
        for channel, clipped in zip(channels, count_clipped(values), strict=True):
            notes.append(("pixels", f"above full scale in {compartment} in {channel}: clipped for Texture", clipped))
    return notes
