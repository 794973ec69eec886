"""The layout `cellvoyager`: a measurement of a Yokogawa CellVoyager CV7000 or CV8000.

Owns the way from the records of `MeasurementData.mlf` to planes; `MeasurementDetail.mrf` gives pixel size and camera,
the `.mes` setting the channels and the plan. A file counts only if a record names it; a record counts even if its file
is gone.
"""

import logging
import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import pandas as pd

from plateline.errors import SourceError
from plateline.identity import SHAPES, parse_well
from plateline.layouts import named
from plateline.layouts.gaps import missing_planes
from plateline.layouts.planes import PLANE, left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_plane
from plateline.layouts.xml import local_name, read_xml

__all__ = ["index", "read_plane"]  # what a layout module must have

log = logging.getLogger(__name__)

Rows = list[dict[str, Any]]
LeftOut = list[tuple[str, str]]


def index(source: Path, *, plate: str, shape: int, measurement: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of a measurement, and the files and records that are not in it.

    Parameters
    ----------
    source : Path
        Folder with one `.mlf` file, in it or in a folder below.
    plate : str
        Name of the plate, for messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    measurement : str
        Folder of the `.mlf` file inside the source, where there are several; empty for the only one.

    Returns
    -------
    planes : pd.DataFrame
        As `plateline.layouts.planes.tabulate` has it, one row per image record. `channel` is ``C01``, ``C02``, ... as
        in the file names. A channel that a field has twice, from different actions or timelines, becomes several:
        ``C01L01A02``. `channel_name` is its fluorophore, else its target, else its filter. Positions are in µm from
        the centre of the well. A record whose file is missing or cannot be used is a row with status ``unreadable``
        and the reason; so is a plane that the setting plans without a record (no path), or that a stack lacks.
    left_out : pd.DataFrame
        `path` and `reason` of image files that no record names, and of records that are none of an image, such as
        acquisition errors, or repeat another; sorted.

    Raises
    ------
    SourceError
        If the folder is missing or holds no `.mlf` file or several, an XML file is broken, of another kind or version
        or declares entities, a record names a file outside the folder of the `.mlf`, a well is not on the plate, or
        two files are the same plane.

    Notes
    -----
    Without a `.mrf` or `.mes` file beside the records, what it tells is unknown; the log says so.
    """
    paths, left_out = list_files(source, plate)
    indexes = _indexes(paths, source, plate)
    key = "ingest.cellvoyager.measurement"
    mlf = named.pick_one(indexes, measurement, what=".mlf files", key=key, source=source)
    detail, setting = _read_detail(source, mlf, paths, shape)
    entries = _read_records(source, mlf, shape, left_out)
    facts = _channel_facts(detail, setting)
    entries = [entry | facts.get(entry["ch"], {}) for entry in _tell_apart(entries)]
    rows = named.describe_planes(entries, index=mlf, paths=paths, source=source)
    known = {row["path"] for row in rows}
    left_out = [(path, reason) for path, reason in left_out if path not in known]
    left_out += named.not_named(paths, known, mlf, [other for other in indexes.values() if other != mlf])
    rows += missing_planes(rows, _planned_fields(setting, shape, rows), "the measurement setting")
    return tabulate(rows, source), left_out_table(left_out)


def _indexes(paths: list[str], source: Path, plate: str) -> dict[str, str]:
    """Folder of each measurement -> path of its records."""
    found = [path for path in paths if path.lower().endswith(".mlf")]
    if not found:
        msg = (
            f"source {source} of plate {plate} holds no MeasurementData.mlf among its {len(paths)} files; correct "
            "`source` or `layout` in the plate sheet, or copy the .mlf beside the images"
        )
        raise SourceError(msg)
    folders = [str(PurePosixPath(path).parent) for path in found]
    return {path if folders.count(folder) > 1 else folder: path for path, folder in zip(found, folders, strict=True)}


def _read_root(file: Path, name: str) -> Element:
    """Root element of a file of the measurement, of this name and version 1."""
    root = read_xml(file)
    version = _attributes(root).get("Version", "none")
    if local_name(root) != name or not re.fullmatch(r"1\.[0-9]+", version):
        msg = f"{file} is a {local_name(root)} of version {version}; expected a {name} of version 1.0 of a CellVoyager"
        raise SourceError(msg)
    if version != "1.0":
        log.warning("%s is of version %s; only 1.0 is known, compare the index with the plate", file, version)
    return root


def _attributes(element: Element) -> dict[str, str]:
    """Attributes of an element without their namespaces."""
    return {name.rpartition("}")[2]: text for name, text in element.attrib.items()}


def _children(element: Element | None, name: str) -> list[Element]:
    """All elements of this name at any depth; none of None."""
    return [] if element is None else [child for child in element.iter() if local_name(child) == name]


# --- the setting


def _read_detail(source: Path, mlf: str, paths: list[str], shape: int) -> tuple[Element | None, Element | None]:
    """The `.mrf` and the `.mes` beside the records; None for one that is not there, or not alone."""
    beside = [path for path in paths if PurePosixPath(path).parent == PurePosixPath(mlf).parent]
    detail = _read_one([path for path in beside if path.lower().endswith(".mrf")], source, "MeasurementDetail")
    told = {} if detail is None else _attributes(detail)
    named.check_shape(named.whole(told.get("RowCount")), named.whole(told.get("ColumnCount")), shape, mlf)
    settings = [path for path in beside if path.lower().endswith(".mes")]
    own = [path for path in settings if PurePosixPath(path).name == told.get("MeasurementSettingFileName")]
    return detail, _read_one(own or settings, source, "MeasurementSetting")


def _read_one(paths: list[str], source: Path, name: str) -> Element | None:
    if len(paths) != 1:
        log.warning("%s holds %d files of a %s; what it tells is taken as unknown", source, len(paths), name)
        return None
    return _read_root(source / paths[0], name)


def _channel_facts(detail: Element | None, setting: Element | None) -> dict[int | None, dict[str, Any]]:
    """Channel number -> what is known of all its planes."""
    facts: dict[int | None, dict[str, Any]] = {}
    for told in map(_attributes, _children(detail, "MeasurementChannel")):
        x, y = (named.number(told.get(f"{axis}PixelDimension")) for axis in ("Horizontal", "Vertical"))
        bits = named.whole(told.get("InputBitDepth")) or 0
        camera = 2.0**bits - 1 if 8 <= bits <= 32 else math.nan
        facts[named.whole(told.get("Ch"))] = {"pixel_size_um": named.side(x, y), "full_scale": camera}
    lamps = {told.get("Name"): told.get("WaveLength") for told in map(_attributes, _children(setting, "LightSource"))}
    for channel in _children(setting, "Channel"):
        facts.setdefault(named.whole(_attributes(channel).get("Ch")), {}).update(_light(channel, lamps))
    return facts


def _light(channel: Element, lamps: dict[str | None, str | None]) -> dict[str, Any]:
    """Name, exposure and wavelengths of a channel of the setting."""
    told = _attributes(channel)
    used = [lamps.get((lamp.text or "").strip()) for lamp in _children(channel, "LightSourceName")]
    # A band pass is named by its centre and width: BP525/50.
    band = re.fullmatch(r"BP([0-9.]+)/[0-9.]+", told.get("Acquisition", ""))
    return {
        "channel_name": told.get("Fluorophore") or told.get("Target") or told.get("Acquisition", ""),
        "exposure_ms": named.positive(named.number(told.get("ExposureTime"))),
        "excitation_nm": named.positive(named.number(used[0])) if len(used) == 1 else math.nan,
        "emission_nm": named.positive(named.number(band[1])) if band else math.nan,
    }


def _planned_fields(setting: Element | None, shape: int, rows: Rows) -> set[tuple[str, int, int]]:
    """Fields that the setting plans, where it plans the same points in every well and once; else none."""
    lines, points = _children(setting, "Timeline"), _children(setting, "FixedPosition")
    used = [
        _attributes(wells).get("IsSelected", "true").lower() == "true" for wells in _children(setting, "WellSequence")
    ]
    sites = set(range(1, sum(len(_children(point, "Point")) for point in points) + 1))
    if len(lines) != 1 or len(points) != 1 or not all(used) or not {row["Metadata_Site"] for row in rows} <= sites:
        return set()
    chosen = [well for well in _children(lines[0], "TargetWell") if (well.text or "").strip().lower() == "true"]
    places = [
        (named.whole(told.get("Row")) or 0, named.whole(told.get("Column")) or 0) for told in map(_attributes, chosen)
    ]
    height, width = SHAPES[shape]
    wells = [parse_well(f"R{y}C{x}", shape) for y, x in places if 1 <= y <= height and 1 <= x <= width]
    times = {row["Metadata_Timepoint"] for row in rows}
    return {(well, site, time) for well in wells for site in sites for time in times}


# --- the records


def _read_records(source: Path, mlf: str, shape: int, left_out: LeftOut) -> Rows:
    """Identity and path of each image record; the others are added to what is left out."""
    rows = []
    for number, record in enumerate(_children(_read_root(source / mlf, "MeasurementData"), "MeasurementRecord"), 1):
        told, text = _attributes(record), " ".join((record.text or "").split())
        where = f"{mlf}, record {number}"
        numbers = {name: named.whole(told.get(name)) for name in ("Row", "Column", "FieldIndex", "Ch")}
        if told.get("Type", "IMG") != "IMG" or not text or None in numbers.values():
            left_out.append(_no_image(where, told, text))
        else:
            rows.append(_identify(where, told, numbers, shape) | {"path": record.text or ""})
    if not rows:
        msg = f"{source / mlf} has no record of an image; expected MeasurementRecord elements that name files"
        raise SourceError(msg)
    return _without_repeats(rows, left_out)


def _without_repeats(rows: Rows, left_out: LeftOut) -> Rows:
    """The first record of each plane and file; the others are added to what is left out."""
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        kept = first.setdefault(tuple(row[key] for key in (*PLANE, "path", "made")), row)
        if kept is not row:
            left_out.append((row["where"], f"it repeats the {kept['where'].rpartition(', ')[2]}, {row['path']}"))
    return list(first.values())


def _no_image(where: str, told: dict[str, str], text: str) -> tuple[str, str]:
    kind = told.get("Type", "no type")
    place = ", ".join(
        f"{name} {told[name]}" for name in ("Row", "Column", "FieldIndex", "TimePoint", "Ch") if name in told
    )
    return where, f"no image but type {kind} at {place or 'no place'}: {text or 'no text'}"


def _identify(where: str, told: dict[str, str], numbers: dict[str, int | None], shape: int) -> dict[str, Any]:
    return {
        "Metadata_Well": named.place(f"R{numbers['Row']}C{numbers['Column']}", shape, where),
        "Metadata_Site": numbers["FieldIndex"],
        "Metadata_Timepoint": named.whole(told.get("TimePoint")) or 0,
        "z": named.whole(told.get("ZIndex")) or 0,
        "channel": f"C{numbers['Ch']:02d}",
        "ch": numbers["Ch"],
        "made": (named.whole(told.get("TimelineIndex")) or 0, named.whole(told.get("ActionIndex")) or 0),
        "where": where,
        "reason": "",
        "acquired": told.get("Time", ""),
        **{f"position_{axis}_um": named.number(told.get(axis.upper())) for axis in "xyz"},
    }


def _tell_apart(rows: Rows) -> Rows:
    """The same, a channel that a field has twice named by the timeline and action that made it."""
    planes = Counter(tuple(row[key] for key in PLANE) for row in rows)
    twice = {row["channel"] for row in rows if planes[tuple(row[key] for key in PLANE)] > 1}
    ends = ["L{:02d}A{:02d}".format(*row["made"]) if row["channel"] in twice else "" for row in rows]
    return [{**row, "channel": row["channel"] + end} for row, end in zip(rows, ends, strict=True)]
