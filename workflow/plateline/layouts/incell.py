"""The layout `incell`: exports of the IN Cell Analyzers (GE, Cytiva) and of what writes like them.

An acquisition is an index, ``*.xdce``, with one TIFF file per plane beside it. Owns the reading of that index; the
names of the files, ``A - 1(fld 1 wv DAPI - DAPI).tif``, are not read.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pandas as pd

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import parse_well
from plateline.layouts import named
from plateline.layouts.gaps import missing_planes
from plateline.layouts.planes import left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_plane
from plateline.layouts.xml import local_name, read_xml

__all__ = ["index", "read_plane"]  # what a layout module must have

_SUFFIX = ".xdce"
# From 2001 to 2096: a smaller or larger number of seconds is no date.
_EPOCH_S = (1e9, 4e9)


def index(source: Path, *, plate: str, shape: int, measurement: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of one acquisition, and what is not in it.

    Parameters
    ----------
    source : Path
        Folder of one or several acquisitions, searched with its subfolders.
    plate : str
        Name of the plate, for messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    measurement : str
        Path of the ``.xdce`` file inside the source without its ending, or its name; empty where there is one only.

    Returns
    -------
    planes : pd.DataFrame
        One row per image of the index, as `plateline.layouts.planes.tabulate` has it, with stage position, exposure,
        wavelengths and time where they are told. `Metadata_Site` is `field_index` + 1 and `z` is `z_index` + 1, as in
        the names of the files, `z` 0 where there is none; `Metadata_Timepoint` counts from 0; `channel` is the
        ``excitation - emission`` filter, as in the names of the files, one name where both are the same, with ``w`` and
        the number of the wave from 1 where it is shared or missing. A plane whose file is missing or bad is a row with
        `status` ``unreadable``, and so is one that the index lacks and other fields have. A well without images is no
        plane.
    left_out : pd.DataFrame
        `path` and `reason` of images of the index without identity, and of image files that the index does not name,
        thumbnails among them; sorted.

    Raises
    ------
    SourceError
        If the folder is missing or has no index, several of which none is picked, the index is no XML, of another kind
        or names files outside its folder, the plate has another shape, or two images are the same plane.
    """
    paths, left_out = list_files(source, plate)
    indexes = _indexes(paths, source, plate)
    chosen = named.pick_one(indexes, measurement, what="xdce files", key="ingest.incell.measurement", source=source)
    root = read_xml(source / chosen)
    _check_kind(root, chosen)
    for element in _all(root, "Plate"):
        named.check_shape(named.whole(element.get("rows")), named.whole(element.get("columns")), shape, chosen)
    entries, lost = _entries(root, chosen, shape, source)
    rows = named.describe_planes(named.name_channels(entries, "w"), index=chosen, paths=paths, source=source)
    known = {row["path"] for row in rows} | {path for path, _ in lost}
    others = [path for path in indexes.values() if path != chosen]
    left_out += lost + named.not_named(paths, known, chosen, others)
    rows += missing_planes(rows, [], chosen)
    return tabulate(rows, source), left_out_table(left_out)


def _indexes(paths: list[str], source: Path, plate: str) -> dict[str, str]:
    """Path of each index without its ending -> its path."""
    found = {path[: -len(_SUFFIX)]: path for path in paths if path.lower().endswith(_SUFFIX)}
    if not found:
        msg = (
            f"source {source} of plate {plate} holds no .xdce file among its {len(paths)} files; correct `source` or "
            "`layout` in the plate sheet, or copy the index beside the images"
        )
        raise SourceError(msg)
    return found


def _check_kind(root: Element, chosen: str) -> None:
    """Refuse an index of another kind; this one has no version of its own, only that of the program that wrote it."""
    if root.tag != "ImageStack":
        program = next((element.get("name") for element in _all(root, "Application")), None)
        msg = (
            f"{chosen} is <{root.tag}>, written by {program or 'an unknown program'}; expected <ImageStack> of an "
            "IN Cell Analyzer; export the plate again, or use the layout `pattern`"
        )
        raise SourceError(msg)


def _entries(
    root: Element, chosen: str, shape: int, source: Path
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Entry of each image, and (path, reason) of the images without identity."""
    waves, created, size = _waves(root), _created(root), _pixel_size_um(root)
    entries, lost = [], []
    for place, image in enumerate(_images(root), start=1):
        path = named.inside(image.get("filename", ""), chosen, source) or chosen
        try:
            identity = _identify(image, shape, chosen)
        except ImageError as error:
            lost.append((path, f"image {place} of {chosen} {error}"))
            continue
        wave = waves.get(identity["number"], Element("Wavelength"))
        entries.append(identity | _facts(image, wave, created) | {"pixel_size_um": size})
    return entries, lost


def _identify(image: Element, shape: int, chosen: str) -> dict[str, Any]:
    """Identity of a plane; `ImageError` with the reason where the image does not tell it."""
    identifier = _first(image, "Identifier")
    # Without time or z there is one of them.
    texts = {"field_index": "", "wave_index": "", "time_index": "0", "z_index": "0"} | identifier.attrib
    field, wave, time, z = (named.whole(texts[f"{key}_index"]) for key in ("field", "wave", "time", "z"))
    if field is None or wave is None or time is None or z is None:
        msg = f"has the identifier {identifier.attrib}, without a number as one of {', '.join(sorted(texts))}"
        raise ImageError(msg)
    return {
        "Metadata_Well": named.place(_well(image), shape, chosen),
        "Metadata_Site": field + 1,
        "Metadata_Timepoint": time,
        "z": z + 1 if "z_index" in identifier.attrib else 0,
        "number": wave + 1,
    }


def _well(image: Element) -> str:
    """Well of an image, from its label, ``A - 1``, or its row and column, which must not contradict each other."""
    well = _first(image, "Well")
    row, column = (named.whole(_first(well, key).get("number")) for key in ("Row", "Column"))
    label = "".join(well.get("label", "").replace("-", " ").split())
    numbers = "" if row is None or column is None else f"R{row}C{column}"
    if not (label or numbers):
        msg = "has no well"
        raise ImageError(msg)
    if label and numbers and _canonical(label) != _canonical(numbers):
        msg = f"has the well {well.get('label')!r} in row {row} and column {column}"
        raise ImageError(msg)
    return label or numbers


def _canonical(well: str) -> str:
    try:
        return parse_well(well)
    except PlatelineError:
        return well


def _facts(image: Element, wave: Element, created: datetime | None) -> dict[str, Any]:
    """What the index says of one plane beside its identity, in the image or in the settings of its wave."""
    filters = [[_first(part, name) for part in (image, wave)] for name in ("ExcitationFilter", "EmissionFilter")]
    names = [_told(elements, "name").get("name", "").strip() for elements in filters]
    excitation, emission = (
        named.positive(_number(_told(elements, "wavelength"), "wavelength", named.NANOMETRES, "nm"))
        for elements in filters
    )
    exposure = _told([_first(part, "Exposure") for part in (image, wave)], "time")
    x, y = _position(image)
    return {
        "channel_name": " - ".join(dict.fromkeys(name for name in names if name)),
        "path": image.get("filename", ""),
        "reason": "",
        "exposure_ms": named.positive(_number(exposure, "time", named.MILLISECONDS, "ms")),
        "excitation_nm": excitation,
        "emission_nm": emission,
        "position_x_um": x,
        "position_y_um": y,
        "position_z_um": _number(_first(image, "FocusPosition"), "z", named.MICROMETRES, "um"),
        "acquired": _acquired(image, created),
    }


def _waves(root: Element) -> dict[int, Element]:
    """Settings of each wave by its number from 1, its place in the list where it has none."""
    waves: dict[int, Element] = {}
    for place, wave in enumerate(_all(root, "Wavelength")):
        told = named.whole(wave.get("index"))
        waves.setdefault((place if told is None else told) + 1, wave)
    return waves


def _position(image: Element) -> tuple[float, float]:
    """Stage position in µm: on the plate, else from the middle of the well."""
    for name in ("PlatePosition_um", "OffsetFromWellCenter"):
        x, y = (_number(_first(image, name), axis, named.MICROMETRES, "um") for axis in "xy")
        if x == x and y == y:  # neither is NaN
            break
    return x, y


def _pixel_size_um(root: Element) -> float:
    """Side of a pixel, NaN where the objective has none or several calibrations contradict each other."""
    sizes = {
        named.side(*(_number(element, f"pixel_{side}", named.MICROMETRES, "um") for side in ("width", "height")))
        for element in _all(root, "ObjectiveCalibration")
    }
    return sizes.pop() if len(sizes) == 1 else float("nan")


def _created(root: Element) -> datetime | None:
    for element in _all(root, "Creation"):
        try:
            return datetime.fromisoformat(f"{element.get('date')}T{element.get('time')}")
        except ValueError:
            return None
    return None


def _acquired(image: Element, created: datetime | None) -> str:
    """Time of an image, ISO 8601: seconds since 1970 where told, else milliseconds since the acquisition began."""
    stamp = named.number(image.get("timestamp_sec"))
    if _EPOCH_S[0] <= stamp < _EPOCH_S[1]:
        return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds")
    since = named.number(image.get("acquisition_time_ms"))
    try:
        return "" if created is None else (created + timedelta(milliseconds=since)).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return ""


def _number(element: Element, key: str, units: dict[str, float], default: str) -> float:
    """Number of an attribute, in the unit that the element names or the default."""
    return named.number(element.get(key), element.get("unit", "").lower() or default, units)


def _images(root: Element) -> list[Element]:
    return [image for images in root if local_name(images) == "Images" for image in _all(images, "Image")]


def _all(root: Element, name: str) -> list[Element]:
    return [element for element in root.iter() if local_name(element) == name]


def _first(element: Element, name: str) -> Element:
    """First child of a name; one without attributes where there is none."""
    return next((child for child in element if local_name(child) == name), Element(name))


def _told(elements: list[Element], key: str) -> Element:
    """First element that has an attribute, else the first."""
    return next((element for element in elements if element.get(key)), elements[0])
