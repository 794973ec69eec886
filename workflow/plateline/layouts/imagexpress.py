"""The layout `imagexpress`: a MetaXpress / ImageXpress Micro export, with or without its `.HTD` file.

Owns the way from names such as ``TimePoint_1/ZStep_3/Plate_B03_s2_w1{UID}.tif`` to planes, and what happens where one
wave was kept both as planes and as a projection. Nothing in the folder names a file, so names alone decide; headers
give sizes and, in their MetaSeries part, pixel size, exposure, stage position and more.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from plateline.errors import ImageError, PlatelineError, SourceError
from plateline.identity import parse_well
from plateline.layouts import htd, metaseries
from plateline.layouts.gaps import missing_planes
from plateline.layouts.named import pick_one
from plateline.layouts.planes import UNREADABLE, is_image, left_out_table, list_files, tabulate
from plateline.layouts.tiff import read_pages, read_plane

__all__ = ["index", "read_plane"]  # what a layout module must have

# The UID has a fixed length, so that the digits of a wave never run into it. The name of the plate is taken as short
# as can be, and rows behind P need two digits: else `s12` or `w1` would be a well.
_NAME = re.compile(
    r"(?P<prefix>.+?)_(?P<well>[A-P][0-9]{1,2}|[A-Z]{1,2}[0-9]{2})(?:_s(?P<site>[0-9]{1,5}))?"
    r"(?:_w(?P<wave>[0-9]{1,4}))?(?:_t(?P<time>[0-9]{1,6}))?(?:_z(?P<z>[0-9]{1,5}))?(?P<thumb>_thumb)?"
    r"(?:[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12})?\.tiff?",
    re.IGNORECASE | re.ASCII,
)
PROJECTIONS = ("stack", "projection", "both")

Rows = list[dict[str, Any]]
LeftOut = list[tuple[str, str]]


class _File(NamedTuple):
    """An image file, and what its path tells; `z` and `time` are None where it does not."""

    path: str
    root: str
    prefix: str
    well: str
    site: int
    wave: int
    time: int | None
    z: int | None


def index(
    source: Path, *, plate: str, shape: int, projections: str, measurement: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of an export, and the image files that are not in it.

    Parameters
    ----------
    source : Path
        Folder of one export, or one that holds it.
    plate : str
        Name of the plate. Where the files of several plates lie in one folder, those whose name starts with it are
        taken.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    projections : {'stack', 'projection', 'both'}
        What is taken of a wave that a field has both as planes (in ``ZStep_N``) and as a projection that the microscope
        made of them: the planes, the projection, or both, the projection then as a channel of its own,
        ``w1_projection``. What is not taken is left out with a reason. A wave with only one of them is always taken.
    measurement : str
        Folder of the export inside the source (the one that holds its ``TimePoint_N`` or ``ZStep_N`` folders, or its
        images), where there are several; empty for the only one.

    Returns
    -------
    planes : pd.DataFrame
        As `plateline.layouts.planes.tabulate` has it. `channel` is ``w1``, ``w2``, ...; `channel_name` the name of the
        wave in the `.HTD` file, else the illumination setting in the header. `z` is the number of the ZStep; 0 for a
        projection or a single plane. What the `.HTD` plans and the folder lacks, and what a stack lacks that most
        stacks of its channel have, is a row with status ``unreadable``, no path, and the reason.
    left_out : pd.DataFrame
        `path` and `reason` of every other image file, thumbnails among them; sorted. Waves and time points that the
        `.HTD` plans and of which no image exists stand here, too.

    Raises
    ------
    SourceError
        If the folder is missing or holds no image or several exports, a well is not on the plate, two files are the
        same plane, or the `.HTD` file cannot be read, has another version or is of another shape.
    """
    if projections not in PROJECTIONS:
        msg = f"ingest.imagexpress.projections is {projections!r}; expected one of {', '.join(PROJECTIONS)}"
        raise SourceError(msg)
    paths, left_out = list_files(source, plate)
    files = _match_names(paths, left_out, shape)
    files = _one_plate(_one_export(files, left_out, source, measurement), left_out, source, plate)
    rows = _choose([_describe(source, file) for file in files], projections, left_out)
    planned = set()
    if plan_path := _find_plan(paths, files, source):
        plan = htd.read_plan(source / plan_path, shape=shape)
        planned = _planned_fields(plan, rows)
        rows = [{**row, "channel_name": plan.waves.get(row["wave"]) or row["channel_name"]} for row in rows]
        left_out += [(plan_path, reason) for reason in _never_imaged(plan, rows)]
    rows += missing_planes(rows, planned, plan_path)
    return tabulate(rows, source), left_out_table(left_out)


def _match_names(paths: list[str], left_out: LeftOut, shape: int) -> list[_File]:
    """Images whose path is one of an export; other images are added to those left out."""
    files = []
    for path in filter(is_image, paths):
        folder, _, name = path.rpartition("/")
        match = _NAME.fullmatch(name)
        if not match or match["thumb"]:
            left_out.append((path, "a thumbnail" if match else "its name is not that of an ImageXpress image"))
        else:
            files.append(_identify(path, folder, match, shape))
    return files


def _identify(path: str, folder: str, match: re.Match[str], shape: int) -> _File:
    """Identity of a file: folders give time and z, else the name does."""
    root, steps = folder, {"TimePoint": match["time"], "ZStep": match["z"]}
    for word in ("ZStep", "TimePoint"):  # from the inside out
        if found := re.fullmatch(rf"(?:(.*)/)?{word}_([0-9]{{1,6}})", root, re.IGNORECASE | re.ASCII | re.DOTALL):
            root, steps[word] = found[1] or "", found[2]
    try:
        well = parse_well(match["well"], shape)
    except PlatelineError as error:
        msg = f"the name of {path} cannot be read: {error}; correct `shape` in the plate sheet"
        raise SourceError(msg) from error
    time, z = (None if step is None else int(step) for step in steps.values())
    return _File(path, root, match["prefix"], well, int(match["site"] or 1), int(match["wave"] or 1), time, z)


def _one_export(files: list[_File], left_out: LeftOut, source: Path, measurement: str) -> list[_File]:
    """Files of the only export, or of the one chosen by its folder; those of others are added to those left out."""
    if not files:
        msg = (
            f"source {source} holds no image named like Plate_A01_s1_w1.tif; correct `source` or `layout` in the sheet"
        )
        raise SourceError(msg)
    roots = {file.root or ".": file.root for file in files}
    key = "ingest.imagexpress.measurement"
    chosen = pick_one(roots, measurement.rstrip("/"), what="exports, in the folders", key=key, source=source)
    left_out += [(file.path, f"of the export in {file.root or '.'}") for file in files if file.root != chosen]
    return [file for file in files if file.root == chosen]


def _one_plate(files: list[_File], left_out: LeftOut, source: Path, plate: str) -> list[_File]:
    """Files of the only plate of an export, or of the one named so; those of others are added to those left out."""
    names = sorted({file.prefix for file in files})
    fitting = [name for name in names if name.casefold() == plate.casefold()] if len(names) > 1 else names
    if len(fitting) != 1:
        msg = (
            f"{source} holds images of {len(names)} plates, {', '.join(names[:4])}; none alone is called {plate}: give "
            "the plate its name in the plate sheet, or a folder of its own"
        )
        raise SourceError(msg)
    left_out += [(file.path, f"of plate {file.prefix!r}") for file in files if file.prefix not in fitting]
    return [file for file in files if file.prefix in fitting]


def _describe(source: Path, file: _File) -> dict[str, Any]:
    """Row of a file, with `wave` and `projection` beside the columns of the index."""
    row = {
        "Metadata_Well": file.well,
        "Metadata_Site": file.site,
        "Metadata_Timepoint": file.time or 0,
        "z": file.z or 0,
        "channel": f"w{file.wave}",
        "channel_name": "",
        "path": file.path,
        "wave": file.wave,
        "projection": file.z is None,
    }
    try:
        _, pages = read_pages(source / file.path)
        if len(pages) > 1:
            msg = f"the file holds {len(pages)} pages; expected one plane per file"
            raise ImageError(msg)
        told = metaseries.read_properties(source / file.path)
    except ImageError as error:
        return {**row, **UNREADABLE, "reason": str(error)}
    # Some versions keep projections in ZStep_0; their header tells.
    projection = file.z is None or metaseries.is_projection(told)
    facts = metaseries.plane_facts(told, pages[0]["full_scale"])
    return {**row, **pages[0], **facts, "projection": projection, "status": "ok", "reason": ""}


def _choose(rows: Rows, projections: str, left_out: LeftOut) -> Rows:
    """Rows taken where a field has a wave both as planes and as a projection."""
    kinds: dict[tuple[Any, ...], set[bool]] = {}
    for row in rows:
        kinds.setdefault(_stack(row), set()).add(row["projection"])
    chosen = []
    for row in rows:
        if len(kinds[_stack(row)]) == 1:
            chosen.append(row)
        elif projections == "both":
            chosen.append({**row, "channel": row["channel"] + "_projection" * row["projection"]})
        elif row["projection"] == (projections == "projection"):
            chosen.append(row)
        else:
            reason = (
                "the projection of planes that are taken" if row["projection"] else "its projection is taken instead"
            )
            left_out.append((row["path"], f"{reason} (ingest.imagexpress.projections: {projections})"))
    return chosen


def _stack(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["Metadata_Well"], row["Metadata_Site"], row["Metadata_Timepoint"], row["wave"]


def _find_plan(paths: list[str], files: list[_File], source: Path) -> str:
    """Path of the export's `.HTD` file beside its images; empty without one."""
    root, prefix = files[0].root, files[0].prefix
    plans = [path for path in paths if path.lower().endswith(".htd") and path.rpartition("/")[0] == root]
    own = [path for path in plans if Path(path).stem.casefold() == prefix.casefold()]
    if len(plans) > 1 and len(own) != 1:
        msg = f"{source} holds {len(plans)} .HTD files: {', '.join(plans[:4])}; expected one, or one named {prefix}.HTD"
        raise SourceError(msg)
    return (own or plans or [""])[0]


def _planned_fields(plan: htd.Plan, rows: Rows) -> set[tuple[str, int, int]]:
    """Fields that the microscope was told to image, at the time points that it came to."""
    seen = {row["Metadata_Site"] for row in rows}
    sites = set(range(1, plan.sites + 1))
    # Sites numbered beyond the plan are numbered in a way that the plan does not tell.
    sites = sites if seen <= sites else seen
    times = {row["Metadata_Timepoint"] for row in rows}
    return {(well, site, time) for well in plan.wells for site in sites for time in times}


def _never_imaged(plan: htd.Plan, rows: Rows) -> list[str]:
    """What the plan has and the whole folder lacks; as rows it would exclude every field of the plate."""
    waves = set(plan.waves) - {row["wave"] for row in rows}
    reasons = [f"plans wave w{n} ({plan.waves[n]}), of which no image is there" for n in sorted(waves)]
    times = len({row["Metadata_Timepoint"] for row in rows})
    if times < plan.times:
        reasons.append(f"plans {plan.times} time points, images of {times} are there")
    return reasons
