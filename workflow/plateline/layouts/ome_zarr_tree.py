"""The groups of an OME-Zarr plate: which folder is the plate, its wells, and the fields of one acquisition.

Metadata are read as JSON, without zarr, and believed only as far as they have the form they should have.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plateline.errors import ImageError, SourceError
from plateline.layouts import named
from plateline.layouts.planes import is_image

_NODES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def find_plate(source: Path, plate: str, measurement: str) -> tuple[str, list[tuple[str, str]]]:
    """Path of the plate inside the source (``.`` for the source itself), and (path, reason) of what lies beside it.

    Raises
    ------
    SourceError
        If the folder is missing, holds no plate, or several of which none is picked.
    """
    if not source.is_dir():
        msg = f"source {source} of plate {plate} is no folder; correct `source` in the plate sheet"
        raise SourceError(msg)
    plates, left_out = _walk(source)
    if not plates:
        example = f", for example {left_out[0][0]} ({left_out[0][1]})" if left_out else ""
        msg = (
            f"source {source} of plate {plate} holds no OME-Zarr plate: no group with `plate` in its metadata{example}"
            "; correct `source` or `layout` in the plate sheet"
        )
        raise SourceError(msg)
    choices = dict(zip(plates, plates, strict=True))
    key = "ingest.ome-zarr.measurement"
    home = named.pick_one(choices, measurement, what="OME-Zarr plates", key=key, source=source)
    return home, left_out + [(other, "another plate, not picked") for other in plates if other != home]


def _walk(source: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Plates under a folder, without a look inside them, and (path, reason) of other images."""
    plates, left_out = [], []
    for folder, below, files in os.walk(source):
        path = Path(folder).relative_to(source).as_posix()
        left_out += [(_beside(path, name), "is in no OME-Zarr plate") for name in sorted(files) if is_image(name)]
        links = [name for name in sorted(below) if Path(folder, name).is_symlink()]
        left_out += [(_beside(path, name), "a link to a folder is not followed") for name in links]
        kind = _kind(Path(folder))
        if kind == "plate":
            plates.append(path)
        elif kind:
            left_out.append((path, f"is {kind}"))
        below[:] = [] if kind else sorted(set(below) - set(links))
    return sorted(plates), sorted(left_out)


def _kind(folder: Path) -> str:
    """What a folder is: ``plate``, else words for something else of Zarr, or nothing for a folder to look into."""
    if not any((folder / name).is_file() for name in _NODES):
        return ""
    if (folder / ".zarray").is_file():
        return "an array in no OME-Zarr plate"
    try:
        ome = attributes_of(folder)
    except ImageError as error:
        return f"in no OME-Zarr plate: {error}"
    if "plate" in ome:
        return "plate"
    return "an image in no OME-Zarr plate" if "multiscales" in ome else ""


def _beside(folder: str, name: str) -> str:
    return (Path(folder) / name).as_posix()


def attributes_of(folder: Path) -> dict[str, Any]:
    """OME metadata of a group: its attributes, of 0.5 what stands under `ome`.

    Raises
    ------
    ImageError
        If there are none, or they are no JSON object.
    """
    file = next((folder / name for name in _NODES[:2] if (folder / name).is_file()), None)
    if file is None:
        msg = "it has no metadata (zarr.json or .zattrs)" if folder.is_dir() else "the folder is missing"
        raise ImageError(msg)
    try:
        document = json.loads(file.read_bytes())
        attributes = document.get("attributes", {}) if file.name == "zarr.json" else document
        ome = attributes.get("ome", attributes)
        if not isinstance(ome, dict):
            msg = f"`ome` is {type(ome).__name__}; expected an object"
            raise ValueError(msg)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        msg = f"its metadata {file.name} cannot be read: {' '.join(str(error).split())}"
        raise ImageError(msg) from error
    return ome


def objects(holder: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """List of objects under a key, at least one.

    Raises
    ------
    ImageError
        If it is anything else.
    """
    found = holder.get(key)
    if not isinstance(found, list) or not found or not all(isinstance(item, dict) for item in found):
        msg = f"its metadata have no list of objects under {key!r}"
        raise ImageError(msg)
    return found


def text_of(holder: dict[str, Any], key: str) -> str:
    """Text, or whole number as text, under a key; empty for anything else."""
    found = holder.get(key)
    text = str(found).strip() if isinstance(found, str | int) and not isinstance(found, bool) else ""
    return text.encode(errors="replace").decode()  # JSON can hold half a character, which no table can


def check_inside(source: Path, path: str) -> None:
    """Refuse a folder that a link leads out of the source, or whose name no folder can have.

    Raises
    ------
    ImageError
        If it does.
    """
    try:
        outside = not (source / path).resolve().is_relative_to(source.resolve())
        (source / path).is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a zero byte, links in a circle
        msg = f"{path!r} is no path of a folder: {error}"
        raise ImageError(msg) from error
    if outside:
        msg = f"{path} leads outside the source folder {source}; images are read only from inside it"
        raise ImageError(msg)


def read_wells(source: Path, home: str, *, shape: int, versions: Sequence[str]) -> list[dict[str, Any]]:
    """Wells that the plate names.

    Returns
    -------
    list of dict
        `well` (canonical), `path` inside the source, `images` as its metadata have them, and `reason`, why they cannot
        be read, else empty.

    Raises
    ------
    SourceError
        If the plate's metadata cannot be read, are of another version, name a path outside the plate, no well, or one
        twice.
    """
    try:
        ome = attributes_of(source / home)
        described = ome["plate"] if isinstance(ome["plate"], dict) else {}
        _check_version(text_of(ome, "version") or text_of(described, "version"), versions, source / home)
        entries = objects(described, "wells")
    except ImageError as error:
        msg = f"the plate {source / home} cannot be read: {error}; copy or export it again"
        raise SourceError(msg) from error
    wells: dict[str, dict[str, Any]] = {}
    for entry in entries:
        path = named.inside(text_of(entry, "path"), _beside(home, "zarr.json"), source)
        name = _name(path, home, shape, source)
        if name in wells:
            msg = (
                f"the plate {source / home} names well {name} twice: {wells[name]['path']} and {path}; export it again"
            )
            raise SourceError(msg)
        wells[name] = {"well": name, "path": path, **_images(source, path)}
    return [wells[name] for name in sorted(wells)]


def _check_version(version: str, versions: Sequence[str], where: Path) -> None:
    """A plate without a version is read: its Zarr format tells 0.4 from 0.5."""
    if version and version not in versions:
        msg = (
            f"the plate {where} is OME-Zarr {version}; expected {', '.join(versions)}; convert it, or add the version "
            "to ingest.ome-zarr.versions if its plates have the same form"
        )
        raise SourceError(msg)


def _name(path: str, home: str, shape: int, source: Path) -> str:
    """Well of a path: its row and column are the last two folders, as letters and number or as two numbers."""
    row, _, column = path.rpartition("/")
    row = row.rpartition("/")[2]
    return named.place(f"R{row}C{column}" if row.isdigit() else row + column, shape, f"the plate {source / home}")


def _images(source: Path, path: str) -> dict[str, Any]:
    try:
        check_inside(source, path)
        well = attributes_of(source / path).get("well")
        images = objects(well if isinstance(well, dict) else {}, "images")
        if not all(text_of(image, "path") for image in images):
            msg = "its metadata name an image without a path"
            raise ImageError(msg)
    except ImageError as error:
        return {"images": [], "reason": f"the well cannot be read: {error}"}
    return {"images": images, "reason": ""}


def pick_fields(
    wells: list[dict[str, Any]], source: Path, home: str, acquisition: str
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Fields of one acquisition, and (path, reason) of the other images of the plate.

    Returns
    -------
    fields : list of dict
        `well`, `site`, `path` inside the source, and `reason`, why it cannot be read, else empty.
    left_out : list of (path, reason)

    Raises
    ------
    SourceError
        If wells have images of several acquisitions and none is picked, or an image lies outside its well.
    """
    chosen = _pick_acquisition(wells, source, home, acquisition)
    fields, left_out = [], []
    for well in wells:
        # The name of the metadata does not matter here: only the folder they lie in.
        paths = [named.inside(text_of(i, "path"), f"{well['path']}/zarr.json", source) for i in well["images"]]
        own = [text_of(image, "acquisition") in chosen for image in well["images"]]
        taken = [path for path, is_own in zip(paths, own, strict=True) if is_own]
        left_out += [(path, "of another acquisition") for path, is_own in zip(paths, own, strict=True) if not is_own]
        fields += [
            {"well": well["well"], "site": site, "path": path, "reason": _link(source, path)}
            for site, path in zip(_sites(taken), taken, strict=True)
        ]
        left_out += _not_named(source, well["path"], paths, "multiscales") if not well["reason"] else []
    named_wells = [well["path"] for well in wells]
    rows = sorted({Path(path).parent.as_posix() for path in [*named_wells, *_rows(source, home)]})
    return fields, left_out + [lost for row in rows for lost in _not_named(source, row, named_wells, "well")]


def _link(source: Path, path: str) -> str:
    try:
        check_inside(source, path)
    except ImageError as error:
        return str(error)
    return ""


def _pick_acquisition(wells: list[dict[str, Any]], source: Path, home: str, wanted: str) -> set[str]:
    """Ids, as text, of the images to take; an image without one belongs to the only acquisition there is."""
    used = {text_of(image, "acquisition") for well in wells for image in well["images"]}
    ids = sorted(used - {""}) or [""]
    described = attributes_of(source / home)["plate"].get("acquisitions")
    listed = [item for item in described if isinstance(item, dict)] if isinstance(described, list) else []
    ids_of = {text_of(item, "name"): text_of(item, "id") for item in listed if text_of(item, "name")}
    wanted = wanted if wanted in ids else ids_of.get(wanted, wanted)
    if len(ids) == 1 and wanted in ("", ids[0]):
        return used | {ids[0]}
    choices = dict(zip(ids, ids, strict=True))
    key = "ingest.ome-zarr.acquisition"
    return {named.pick_one(choices, wanted, what="acquisitions", key=key, source=source / home)}


def _sites(paths: list[str]) -> list[int]:
    """Site of each image of a well: its name where all are different whole numbers, else its place."""
    numbers = [named.whole(path.rpartition("/")[2]) for path in paths]
    whole = [number for number in numbers if number is not None]
    return whole if len(set(whole)) == len(paths) else list(range(1, len(paths) + 1))


def _rows(source: Path, home: str) -> list[str]:
    """A path inside each folder of the plate that may be a row."""
    return [_beside(home, f"{folder.name}/-") for folder in sorted((source / home).iterdir()) if folder.is_dir()]


def _not_named(source: Path, parent: str, known: list[str], key: str) -> list[tuple[str, str]]:
    """(path, reason) of the groups with such metadata in a folder, which the metadata above do not name."""
    if _link(source, parent) or not (source / parent).is_dir():
        return []
    lost = []
    for folder in sorted((source / parent).iterdir()):
        path = _beside(parent, folder.name)
        if path in known or not folder.is_dir() or folder.is_symlink():
            continue
        try:
            if key in attributes_of(folder):
                lost.append((path, "the metadata above do not name it"))
        except ImageError:
            continue  # a group that holds nothing of its own
    return lost
