"""Arrays of a plate that nothing names, and files that were never finished."""

import json
from collections.abc import Iterator
from pathlib import Path


def stray_arrays(path: Path, fields: set[tuple[str, int]]) -> list[Path]:
    """What stands in a plate's OME-Zarr though neither the plate's index nor the metadata beside it name it.

    Parameters
    ----------
    path : Path
        The plate.
    fields : set of tuple
        Well and site of every field of its index.

    Returns
    -------
    list of Path
        Fields that the index lacks; levels, labels and other folders that the field's own metadata lack; files that a
        killed job was writing. Sorted.
    """
    found = [*path.rglob(".*.tmp")]
    for field in path.glob("*/*/*"):
        row, column, site = field.parts[-3:]
        if field.is_dir() and not (site.isdigit() and (row + column, int(site)) in fields):
            found.append(field)
        elif field.is_dir():
            found += _strays_of(field)
    return sorted(found)


def _strays_of(field: Path) -> Iterator[Path]:
    """Folders of one field that its metadata do not name."""
    labels = field / "labels"
    named = _ome(labels).get("labels", [])
    yield from _unnamed(field, {*_levels(field), "labels"})
    yield from _unnamed(labels, set(named))
    for name in named:
        yield from _unnamed(labels / name, _levels(labels / name))


def _unnamed(folder: Path, names: set[str]) -> Iterator[Path]:
    if folder.is_dir():
        yield from (child for child in folder.iterdir() if child.is_dir() and child.name not in names)


def _levels(image: Path) -> set[str]:
    return {level["path"] for scales in _ome(image).get("multiscales", []) for level in scales["datasets"]}


def _ome(group: Path) -> dict:
    document = group / "zarr.json"
    return json.loads(document.read_text())["attributes"].get("ome", {}) if document.is_file() else {}
