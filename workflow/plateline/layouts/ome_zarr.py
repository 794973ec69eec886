"""The layout `ome-zarr`: a plate that is OME-Zarr already, 0.4 on Zarr v2 or 0.5 on Zarr v3.

Owns which groups of a source are the plate, its wells, fields and finest arrays, and the planes in them. Coarser levels
of a pyramid and label images are left alone. What the metadata name and the disk lacks is a row that says so.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr

from plateline.errors import ImageError, SourceError
from plateline.layouts import named, ome_zarr_tree
from plateline.layouts.gaps import missing_planes
from plateline.layouts.ome_zarr_tree import attributes_of, objects, text_of
from plateline.layouts.planes import UNREADABLE, left_out_table, tabulate

# Words for units of length in OME-Zarr; without one a scale says nothing of the sample.
_MICROMETRES = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6}
# What `omero` may say of a channel, in nm and ms -> its word there.
_WAVES = {"emission_nm": "emissionWave", "excitation_nm": "excitationWave", "exposure_ms": "exposureTime"}
# A field with more planes has a damaged header, whose rows would fill the memory.
_MOST_PLANES = 100_000


def index(
    source: Path, *, plate: str, shape: int, measurement: str, acquisition: str, versions: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of one plate, and what is not in it.

    Parameters
    ----------
    source : Path
        The plate itself, or a folder that holds one or several.
    plate : str
        Name of the plate, for messages.
    shape : int
        Wells of the plate, a key of `plateline.identity.SHAPES`.
    measurement : str
        Path of the plate inside the source, or its name; empty where there is one only.
    acquisition : str
        `id` or name of the acquisition to take; empty where the wells have images of one only.
    versions : sequence of str
        Versions of OME-Zarr that are read: ``0.4``.

    Returns
    -------
    planes : pd.DataFrame
        One row per plane of the finest level, as `plateline.layouts.planes.tabulate` has it: `path` is the folder of
        the array, `page` the place of the plane over time, channel and z, in this order. `Metadata_Site` is the name
        of the image where all of a well are whole numbers, else its place in the well, from 1. `channel` is the label
        of `omero`, with ``ch`` and its number from 0 where it is shared or missing. `pixel_size_um` needs a unit;
        `full_scale` is the end of the channel's window where that is a camera's. A well, field, array, channel or time
        point that is named or usual and not there is a row with `status` ``unreadable``, and so is a time point that
        Plateline laid out and never wrote.
    left_out : pd.DataFrame
        `path` and `reason` of images of another acquisition or plate, of wells and images that the metadata do not
        name, and of image files outside the plate; sorted.

    Raises
    ------
    SourceError
        If the folder is missing or has no plate, several plates or acquisitions of which none is picked, the version is
        unknown, the plate's metadata cannot be read, a path leads out of the source, a name is no well of the plate,
        two images are the same field, or no field can be read.
    """
    home, left_out = ome_zarr_tree.find_plate(source, plate, measurement)
    wells = ome_zarr_tree.read_wells(source, home, shape=shape, versions=versions)
    fields, others = ome_zarr_tree.pick_fields(wells, source, home, acquisition)
    rows: list[dict[str, Any]] = []
    broken: dict[tuple[str, int], str] = {}
    for field in fields:
        try:
            rows += _planes_of(source, field)
        except ImageError as error:
            broken[field["well"], field["site"]] = f"{field['path']}: {error}"
    rows = named.name_channels(rows, "ch")
    rows += _missing(rows, wells, fields, broken, source)
    return tabulate(rows, source), left_out_table([*left_out, *others])


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels of one plane.

    Parameters
    ----------
    source, path, page
        Folder, path and page as in the table of `index`.

    Returns
    -------
    array of shape (Y, X)
        In the dtype of the array, in the byte order of this computer.

    Raises
    ------
    ImageError
        If the path leaves the folder, or the array is missing, damaged, unlike its index, or has no chunk of this plane
        on disk. A chunk that is missing beside others is fill value, as Zarr has it.
    """
    ome_zarr_tree.check_inside(source, path)
    try:
        array = _open(source / path)
        axes = _axes_above(source, path)
        sizes = _sizes(array, axes)
        place = dict(zip("tcz", np.unravel_index(page, [sizes[axis] for axis in "tcz"]), strict=True))
        _check_chunks(source / path, array, axes, place)
        pixels = np.asarray(array[tuple(slice(None) if axis in "yx" else int(place[axis]) for axis in axes)])
    except MemoryError:
        raise
    except Exception as error:  # zarr and its codecs raise whatever a broken array leads them to
        msg = f"cannot read plane {page} of {path} in {source}: {_reason(error)}; copy or export the plate again"
        raise ImageError(msg) from error
    upright = pixels if axes.index("y") < axes.index("x") else pixels.T
    return np.ascontiguousarray(upright, dtype=array.dtype.newbyteorder("="))


def _open(folder: Path) -> zarr.Array:
    """Array of a folder, whose name is never taken for a URL."""
    try:
        return zarr.open_array(zarr.storage.LocalStore(folder, read_only=True), mode="r")
    except MemoryError:
        raise
    except Exception as error:
        msg = f"its array cannot be opened: {_reason(error)}" if folder.is_dir() else f"array {folder.name} is missing"
        raise ImageError(msg) from error


def _planes_of(source: Path, field: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of one field, each with the `number` of its channel instead of its channel."""
    if field["reason"]:
        raise ImageError(field["reason"])
    ome = attributes_of(source / field["path"])
    image = objects(ome, "multiscales")[0]
    axes = _axes(image)
    path = named.inside(text_of(objects(image, "datasets")[0], "path"), f"{field['path']}/zarr.json", source)
    if not path:
        msg = "its finest level has no path"
        raise ImageError(msg)
    ome_zarr_tree.check_inside(source, path)
    array = _open(source / path)
    sizes = _sizes(array, axes)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    whole = {
        "Metadata_Well": field["well"],
        "Metadata_Site": field["site"],
        "path": path,
        "height": sizes["y"],
        "width": sizes["x"],
        "dtype": str(dtype),
        "pixel_size_um": _pixel_size_um(image, axes),
        **_stage(ome),
    }
    channels = _channels(ome, sizes["c"], dtype)
    written = array.attrs.get("plateline")
    return [
        {**whole, "Metadata_Timepoint": t, "z": z, "page": page, **channels[c], **_status(written, t)}
        for page, (t, c, z) in enumerate(np.ndindex(sizes["t"], sizes["c"], sizes["z"]))
    ]


def _status(written: Any, time: int) -> dict[str, Any]:
    """Our own plates say which time points hold pixels; those of others say nothing."""
    if isinstance(written, dict) and str(time) not in written:
        return {**UNREADABLE, "reason": f"Plateline excluded time point {time} of this field and wrote no pixels"}
    return {"status": "ok", "reason": ""}


def _axes(image: dict[str, Any]) -> str:
    """Letters of the axes in the order of the array."""
    names = [text_of(axis, "name") for axis in objects(image, "axes")]
    if len(set(names)) < len(names) or not {"y", "x"} <= set(names) <= set("tczyx"):
        msg = f"its axes are {', '.join(names)}; expected y, x and of t, c, z at most one each"
        raise ImageError(msg)
    return "".join(names)


def _axes_above(source: Path, path: str) -> str:
    """Axes of an array from the image above it that names it as its finest level."""
    for folder in Path(path).parents:
        try:
            image = objects(attributes_of(source / folder), "multiscales")[0]
            finest = text_of(objects(image, "datasets")[0], "path")
        except ImageError:
            continue
        if named.inside(finest, (folder / "zarr.json").as_posix(), source) == path:
            return _axes(image)
    msg = "no image names this array as its finest level, unlike its index"
    raise ImageError(msg)


def _sizes(array: zarr.Array, axes: str) -> dict[str, int]:
    """Size along every axis, 1 for one that the array has not."""
    if len(array.shape) != len(axes) or 0 in array.shape:
        msg = f"its array has shape {array.shape}; expected the axes {', '.join(axes)}, none of them empty"
        raise ImageError(msg)
    if np.dtype(array.dtype).kind not in "iuf":
        msg = f"its dtype is {array.dtype}; expected whole or floating-point numbers"
        raise ImageError(msg)
    sizes = dict.fromkeys("tczyx", 1) | {axis: int(size) for axis, size in zip(axes, array.shape, strict=True)}
    if (planes := sizes["t"] * sizes["c"] * sizes["z"]) > _MOST_PLANES:
        msg = f"its array has {planes} planes (shape {array.shape}); expected at most {_MOST_PLANES}"
        raise ImageError(msg)
    return sizes


def _pixel_size_um(image: dict[str, Any], axes: str) -> float:
    """Side of a pixel of the finest level: the scale of the level times that of the whole image, where it has one."""
    sides = []
    for axis in "xy":
        place = axes.index(axis)
        size = named.number("1", text_of(objects(image, "axes")[place], "unit"), _MICROMETRES)
        for holder in (objects(image, "datasets")[0], image):
            steps = holder.get("coordinateTransformations")
            for step in steps if isinstance(steps, list) else []:
                scale = step.get("scale") if isinstance(step, dict) else None
                if isinstance(scale, list) and len(scale) == len(axes):
                    size *= named.number(str(scale[place]))
        sides.append(size)
    return named.side(*sides)


def _channels(ome: dict[str, Any], count: int, dtype: np.dtype) -> list[dict[str, Any]]:
    """Number, name and largest value of each channel."""
    omero = ome.get("omero")
    listed = objects(omero, "channels") if isinstance(omero, dict) and omero.get("channels") else []
    largest = float(np.iinfo(dtype).max) if dtype.kind in "iu" else math.nan
    channels = []
    for number in range(count):
        channel = listed[number] if number < len(listed) else {}
        window = channel.get("window")
        end = named.number(str(window.get("max"))) if isinstance(window, dict) else math.nan
        # Many writers put the brightest pixel there; 255, 4095 or 65535 is a camera.
        camera = 255 <= end < largest and float(np.log2(end + 1)).is_integer()
        name = text_of(channel, "label")
        numbers = {fact: named.positive(named.number(str(channel.get(word)))) for fact, word in _WAVES.items()}
        told = {"channel_name": name, "full_scale": end if camera else largest, **numbers}
        channels.append({"number": number, **told})
    return channels


def _stage(ome: dict[str, Any]) -> dict[str, float]:
    """Position of the stage where `omero` has one in µm, as our own plates have."""
    omero = ome.get("omero")
    stage = omero.get("stage") if isinstance(omero, dict) else None
    if not isinstance(stage, dict) or stage.get("unit") != "micrometer":
        return {}
    return {f"position_{axis}_um": named.number(str(stage.get(axis))) for axis in "xyz"}


def _missing(
    rows: list[dict[str, Any]],
    wells: list[dict[str, Any]],
    fields: list[dict[str, Any]],
    broken: dict[tuple[str, int], str],
    source: Path,
) -> list[dict[str, Any]]:
    """Rows of the planes that are named or usual and not there."""
    lost = {well["well"]: well for well in wells if well["reason"]}
    if not rows and (broken or lost):
        first = next(iter([*broken.values(), *(f"{well['path']}: {well['reason']}" for well in lost.values())]))
        msg = f"none of the {len(broken)} fields and {len(wells)} wells in {source} can be read; the first: {first}"
        raise SourceError(msg)
    present = {(row["Metadata_Well"], row["Metadata_Site"], row["Metadata_Timepoint"]) for row in rows}
    counts = Counter(time for _, _, time in present)
    images = len({place[:2] for place in present})
    times = [time for time, n in counts.items() if 2 * n >= images] or list(counts)
    # A well that cannot be read has the sites that most wells have.
    sites: dict[str, tuple[int, ...]] = {}
    for field in fields:
        sites[field["well"]] = (*sites.get(field["well"], ()), field["site"])
    usual = Counter(sites.values()).most_common(1)[0][0] if sites else ()
    broken = broken | {
        (name, site): f"{well['path']}: {well['reason']}" for name, well in lost.items() for site in usual
    }
    named_fields = {*((field["well"], field["site"]) for field in fields), *broken}
    paths = {(field["well"], field["site"]): field["path"] for field in fields}
    gaps = missing_planes(rows, [(*place, time) for place in named_fields for time in times], "the plate")
    for gap in gaps:
        place = gap["Metadata_Well"], gap["Metadata_Site"]
        gap["path"] = paths.get(place) or lost[place[0]]["path"]
        gap["reason"] = broken.get(place, gap["reason"])
    return gaps


def _check_chunks(folder: Path, array: zarr.Array, axes: str, place: dict[str, Any]) -> None:
    """Refuse a plane of which nothing is on disk: it would read as a black image that nobody took."""
    written = array.attrs.get("plateline")
    if isinstance(written, dict) and str(place["t"]) in written:
        return
    grid = array.shards or array.chunks
    starts = [
        range(math.ceil(size / step)) if axis in "yx" else [int(place[axis]) // step]
        for axis, size, step in zip(axes, array.shape, grid, strict=True)
    ]
    keys = (tuple(int(pick[i]) for pick, i in zip(starts, at, strict=True)) for at in np.ndindex(*map(len, starts)))
    if not any((folder / array.metadata.encode_chunk_key(key)).is_file() for key in keys):
        msg = "none of its chunks is on disk: it was never written, or the copy is not complete"
        raise ImageError(msg)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
