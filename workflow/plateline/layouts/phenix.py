"""The layout `phenix`: exports and archives of Harmony (Opera Phenix, Operetta, Operetta CLS).

A measurement is an index, ``Index.idx.xml`` or ``Index.xml``, with one TIFF file per plane beside it, mostly in a
folder `Images`. Owns the reading of that index. Versions of it that nobody has looked at are refused by name; the flat
field profiles in it are left alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pandas as pd

from plateline.errors import SourceError
from plateline.layouts import named
from plateline.layouts.gaps import missing_planes
from plateline.layouts.planes import left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_plane
from plateline.layouts.xml import local_name, read_xml

__all__ = ["index", "read_plane"]  # what a layout module must have

# A folder may hold several forms of the same index; the first that is there is read.
_NAMES = ("index.idx.xml", "index.xml", "index.ref.xml")
# Text and unit of each element of an image or of a channel that has a text.
_Facts = dict[str, tuple[str, str]]


def index(
    source: Path, *, plate: str, shape: int, measurement: str, acquisition: str, versions: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of one measurement, and what is not in it.

    Parameters
    ----------
    source : Path
        Folder of one or several measurements, searched with its subfolders.
    plate : str
        Name of the plate, for messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    measurement : str
        Folder of the measurement inside the source, without `Images`; empty where there is one only.
    acquisition : str
        `AcquisitionID` of the images to take, which Harmony 7 writes where a measurement has several (a pre-scan and a
        re-scan); empty where there is one only.
    versions : sequence of str
        Versions of the index that are read, as its namespace names them: ``V5``.

    Returns
    -------
    planes : pd.DataFrame
        One row per image of the index, as `plateline.layouts.planes.tabulate` has it, with stage position, exposure,
        wavelengths and time. `Metadata_Site` is `FieldID`, `Metadata_Timepoint` `TimepointID`, `z` `PlaneID`,
        `channel` the `ChannelName`, with ``ch`` and `ChannelID` where it is shared or missing. Pixel size and
        largest camera value are the index's where it tells them. A plane whose file is missing or bad is a row with
        `status` ``unreadable``, and so is one that Harmony gives another state than Ok, and one that the index lacks
        and other fields have. A well without images is no plane.
    left_out : pd.DataFrame
        `path` and `reason` of images of the index without identity or of another acquisition, of images that a well
        lists and the index does not describe, and of image files that the index does not name; sorted.

    Raises
    ------
    SourceError
        If the folder is missing or has no index, several measurements, plates or acquisitions of which none is picked,
        the index is no XML, of an unknown version or names files outside its folder, the plate has another shape, or
        two images are the same plane.
    """
    paths, left_out = list_files(source, plate)
    indexes = _indexes(paths, source, plate)
    chosen = named.pick_one(indexes, measurement, what="measurements", key="ingest.phenix.measurement", source=source)
    root = read_xml(source / chosen)
    _check_version(root, chosen, versions)
    _check_plate(root, shape, chosen)
    entries, lost = _entries(root, chosen, shape, acquisition, source)
    lost += _not_described(root, chosen)
    rows = named.describe_planes(named.name_channels(entries, "ch"), index=chosen, paths=paths, source=source)
    known = {row["path"] for row in rows} | {path for path, _ in lost}
    others = [path for path in indexes.values() if path != chosen]
    left_out += lost + named.not_named(paths, known, chosen, others)
    rows += missing_planes(rows, [], chosen)
    return tabulate(rows, source), left_out_table(left_out)


def _indexes(paths: list[str], source: Path, plate: str) -> dict[str, str]:
    """Folder of each measurement, without `Images`, -> path of its index."""
    found: dict[str, str] = {}
    for name in _NAMES:
        for path in paths:
            folder = PurePosixPath(path).parent
            home = folder.parent if folder.name.lower() == "images" else folder
            if path.lower().rpartition("/")[2] == name:
                found.setdefault(home.as_posix(), path)
    if not found:
        msg = (
            f"source {source} of plate {plate} holds no Index.idx.xml or Index.xml among its {len(paths)} files; "
            "correct `source` or `layout` in the plate sheet, or copy the index beside the images"
        )
        raise SourceError(msg)
    return found


def _check_version(root: Element, chosen: str, versions: Sequence[str]) -> None:
    namespace = root.tag.rpartition("}")[0].lstrip("{")
    version = re.search(r"/Harmony(V\d+)$", namespace)
    if local_name(root) != "EvaluationInputData" or not version or version[1] not in versions:
        msg = (
            f"{chosen} is <{local_name(root)}> of the namespace {namespace!r}; expected <EvaluationInputData> of "
            f"Harmony {', '.join(versions)}; compare it with an index that is read, then add its version to "
            "ingest.phenix.versions"
        )
        raise SourceError(msg)


def _check_plate(root: Element, shape: int, chosen: str) -> None:
    plates = [_facts(plate) for plate in _children(root, "Plates", "Plate")]
    if len(plates) > 1:
        names = ", ".join(repr(_text(plate, "PlateID")) for plate in plates)
        msg = f"{chosen} is of {len(plates)} plates: {names}; expected one; export each plate to a folder of its own"
        raise SourceError(msg)
    for plate in plates:
        rows, columns = (named.whole(_text(plate, key)) for key in ("PlateRows", "PlateColumns"))
        named.check_shape(rows, columns, shape, chosen)


def _entries(
    root: Element, chosen: str, shape: int, acquisition: str, source: Path
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Entry of each image, and (path, reason) of the images without identity or of another acquisition."""
    images = [_facts(image) for image in _children(root, "Images", "Image")]
    found = {_text(image, "AcquisitionID") for image in images} | ({acquisition} if not images else set())
    wanted = named.pick_one(
        dict(zip(found, found, strict=True)),
        acquisition,
        what="acquisitions",
        key="ingest.phenix.acquisition",
        source=source / chosen,
    )
    channels = _channels(root)
    entries, lost = [], []
    for place, image in enumerate(images, start=1):
        path = named.inside(_text(image, "URL"), chosen, source) or chosen
        if _text(image, "AcquisitionID") != wanted:
            lost.append((path, f"of acquisition {_text(image, 'AcquisitionID')!r}, not picked"))
        elif absent := _absent(image):
            lost.append((path, f"image {place} of {chosen} has no number as {', '.join(absent)}"))
        else:
            entries.append(_entry(channels.get(_whole(image, "ChannelID"), {}) | image, shape, chosen))
    return entries, lost


def _absent(image: _Facts) -> list[str]:
    """Elements that must tell the identity of an image and do not; a plane and a time point may be left out."""
    needed = ("Row", "Col", "FieldID", "ChannelID", *(key for key in ("PlaneID", "TimepointID") if key in image))
    return [key for key in needed if _whole(image, key) is None]


def _entry(facts: _Facts, shape: int, chosen: str) -> dict[str, Any]:
    """What the index says of one plane, its channel's description included."""
    state = _text(facts, "State")
    return {
        "Metadata_Well": named.place(f"R{_whole(facts, 'Row')}C{_whole(facts, 'Col')}", shape, chosen),
        "Metadata_Site": _whole(facts, "FieldID"),
        "Metadata_Timepoint": _whole(facts, "TimepointID") or 0,
        "z": _whole(facts, "PlaneID") or 0,
        "number": _whole(facts, "ChannelID"),
        "channel_name": _text(facts, "ChannelName"),
        "path": _text(facts, "URL"),
        "reason": "" if state.lower() in ("", "ok") else f"Harmony gives the image the state {state!r}",
        "pixel_size_um": named.side(*(_number(facts, f"ImageResolution{axis}", "m") for axis in "XY")),
        "full_scale": _largest(named.number(_text(facts, "MaxIntensity"))),
        "exposure_ms": named.positive(_number(facts, "ExposureTime", "s")),
        "excitation_nm": named.positive(_number(facts, "MainExcitationWavelength", "nm")),
        "emission_nm": named.positive(_number(facts, "MainEmissionWavelength", "nm")),
        **{f"position_{axis}_um": _number(facts, f"Position{axis.upper()}", "m") for axis in "xyz"},
        "acquired": _text(facts, "AbsTime"),
    }


def _channels(root: Element) -> dict[int | None, _Facts]:
    """Description of each channel number: from version 6 on it stands in the maps, once, instead of in every image."""
    channels: dict[int | None, _Facts] = {}
    for entry in root.iter():
        if local_name(entry) == "Entry" and entry.get("ChannelID"):
            # Several maps may describe a channel, each in part.
            known = channels.setdefault(named.whole(entry.get("ChannelID")), {})
            known.update({key: fact for key, fact in _facts(entry).items() if key not in known})
    return channels


def _not_described(root: Element, chosen: str) -> list[tuple[str, str]]:
    """(index, reason) of each image that a well lists by its id and that the images lack."""
    described = {_text(_facts(image), "id") for image in _children(root, "Images", "Image")}
    if described == {""}:  # images without ids cannot be told from missing ones
        return []
    lost = []
    for well in _children(root, "Wells", "Well"):
        for image in well:
            name = image.get("id", "")
            if local_name(image) == "Image" and name not in described:
                lost.append((chosen, f"image {name} of well {_text(_facts(well), 'id')} is listed and not described"))
    return lost


def _children(root: Element, section: str, name: str) -> list[Element]:
    return [child for part in root if local_name(part) == section for child in part if local_name(child) == name]


def _facts(element: Element) -> _Facts:
    texts = [(local_name(part), (part.text or "").strip(), part.get("Unit", "").strip()) for part in element]
    return {name: (text, unit) for name, text, unit in texts if text}


def _text(facts: _Facts, key: str) -> str:
    return facts.get(key, ("", ""))[0]


def _whole(facts: _Facts, key: str) -> int | None:
    return named.whole(_text(facts, key))


def _number(facts: _Facts, key: str, default: str) -> float:
    """Number of an element in µm, nm or ms, whichever its `default` unit stands for."""
    units = {"m": named.MICROMETRES, "s": named.MILLISECONDS, "nm": named.NANOMETRES}[default]
    text, unit = facts.get(key, ("", ""))
    return named.number(text, unit or default, units)


def _largest(levels: float) -> float:
    """Largest value of a camera that tells its number of levels (65536) or its largest value (65535)."""
    return levels - 1 if levels >= 256 and np.log2(levels).is_integer() else levels
