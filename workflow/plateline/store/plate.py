"""One plate as OME-Zarr 0.5: the skeleton, raw pixels, label images, and the keys that vouch for them.

Axes are `tczyx` for images and `tzyx` for labels. A shard holds all channels of one time point and plane. The image of
a field has one plane; where all planes of a stack are kept, they are an image of their own, `stack`, beside its labels.
Every job writes whole shards of its own wells only. Each array's attributes name, per time point, the key and checksum
of what it holds, so that a table and the pixels it speaks of can be compared.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import StaleError
from plateline.identity import COMPARTMENTS, FIELD, SHAPES, row_letters, row_number, split_well
from plateline.run import writing
from plateline.store.files import temporary, write_whole
from plateline.store.keys import checksum
from plateline.store.shards import BLOCK, CHUNK, LEVEL, clear_shard, read_shard, write_shard

IMAGES = Path("results/images")

# Colours of the first channels, chosen apart for colour-blind eyes; the DNA channel is blue by custom.
COLOURS = ("00B050", "0072B2", "D55E00", "CC79A7", "F0E442", "56B4E9", "E69F00", "FFFFFF")
# The image of a field that holds all its planes.
STACK = "stack"
# What a source told of a channel -> its word in the metadata.
TOLD = {
    "channel_name": "name",
    "emission_nm": "emissionWave",
    "excitation_nm": "excitationWave",
    "exposure_ms": "exposureTime",
}


def images_of(plate: str) -> Path:
    """Path of a plate's OME-Zarr."""
    return IMAGES / f"{plate}.zarr"


def lay_out(
    path: Path,
    *,
    wells: dict[str, list[int]],
    times: int,
    sizes: list[tuple[int, int]],
    dtype: str,
    omero: dict,
) -> None:
    """Lay out a whole plate: groups, metadata and empty arrays, so that later jobs only fill arrays of their own wells.

    Parameters
    ----------
    path : Path
        The plate; an earlier one is replaced at once, when the new one is complete.
    wells : dict of str to list of int
        Sites of each well.
    times : int
        Time points of every field.
    sizes : list of tuple of int
        Height and width of each pyramid level, finest first.
    dtype : str
        Of the raw pixels.
    omero : dict
        `name` and `shape` of the plate, `channels` (names in order), `pixel_size_um` (NaN unknown), `full_scale`; where
        the source told them, `told` (per channel, of `channel_name`, `emission_nm`, `excitation_nm`, `exposure_ms`) and
        `positions` (well and site -> x, y, z of the stage, µm, NaN unknown). `planes` above 1 lays out stacks.
    """
    unfinished = temporary(path)
    shutil.rmtree(unfinished, ignore_errors=True)
    with writing(path):
        _write_group(unfinished, _plate_metadata(wells, omero))
        _lay_out_field(unfinished / ".field", times, sizes, dtype, omero)
        _lay_out_wells(unfinished, wells, sizes, omero)
        shutil.rmtree(unfinished / ".field")
        _replace(unfinished, path)


def _lay_out_wells(path: Path, wells: dict[str, list[int]], sizes: list[tuple[int, int]], omero: dict) -> None:
    """Every field of every well, as copies of the pattern."""
    positions = omero.get("positions", {})
    pattern = {file.relative_to(path / ".field"): file.read_bytes() for file in path.glob(".field/**/zarr.json")}
    for well, sites in wells.items():
        row, column = split_well(well)
        _write_group(path / row, {})
        _write_group(path / row / column, _well_metadata(sites))
        for site in sites:
            field = path / row / column / str(site)
            for name, content in pattern.items():
                (field / name).parent.mkdir(parents=True, exist_ok=True)
                (field / name).write_bytes(content)
            if (well, site) in positions:
                _write_group(field, _field_metadata(sizes, omero, positions[well, site]))


def _replace(new: Path, path: Path) -> None:
    """Put a folder in another's place; the old one goes last."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _write_group(path: Path, ome: dict) -> None:
    """A group's `zarr.json`, written directly: a plate has tens of thousands, and zarr takes milliseconds each."""
    path.mkdir(parents=True, exist_ok=True)
    attributes = {"ome": {"version": "0.5", **ome}} if ome else {}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (path / "zarr.json").write_text(json.dumps(group, indent=1))


def _plate_metadata(wells: dict[str, list[int]], omero: dict) -> dict:
    rows, columns = SHAPES[omero["shape"]]
    places = [(well, *split_well(well)) for well in sorted(wells)]
    return {
        "plate": {
            "name": omero["name"],
            "version": "0.5",
            "rows": [{"name": row_letters(row)} for row in range(rows)],
            "columns": [{"name": f"{column + 1:02d}"} for column in range(columns)],
            "wells": [
                {"path": f"{row}/{column}", "rowIndex": row_number(row), "columnIndex": int(column) - 1}
                for _, row, column in places
            ],
            "field_count": max((len(sites) for sites in wells.values()), default=0) or 1,
            "acquisitions": [{"id": 0}],
        }
    }


def _well_metadata(sites: list[int]) -> dict:
    return {"well": {"images": [{"path": str(site), "acquisition": 0} for site in sites]}}


def _field_metadata(sizes: list[tuple[int, int]], omero: dict, position: tuple[float, ...] = ()) -> dict:
    """Multiscales and omero of a field, with the position of the stage where it is known."""
    stage = {axis: um for axis, um in zip("xyz", position, strict=False) if np.isfinite(um)}
    held = _omero(omero) | ({"stage": stage | {"unit": "micrometer"}} if stage else {})
    return {"multiscales": _multiscales("tczyx", sizes, omero), "omero": held}


def _lay_out_field(path: Path, times: int, sizes: list[tuple[int, int]], dtype: str, omero: dict) -> None:
    """One empty field, the pattern of all others."""
    _write_group(path, _field_metadata(sizes, omero))
    for level, (y, x) in enumerate(sizes):
        _create(path / str(level), "tczyx", (times, len(omero["channels"]), 1, y, x), dtype)
    if (planes := omero.get("planes", 1)) > 1:
        _write_group(path / STACK, _field_metadata(sizes[:1], omero))
        _create(path / STACK / "0", "tczyx", (times, len(omero["channels"]), planes, *sizes[0]), dtype)
    _write_group(path / "labels", {"labels": list(COMPARTMENTS)})
    for name in COMPARTMENTS:
        label = {"multiscales": _multiscales("tzyx", sizes, omero), "image-label": {"source": {"image": "../../"}}}
        _write_group(path / "labels" / name, label)
        for level, (y, x) in enumerate(sizes):
            _create(path / "labels" / name / str(level), "tzyx", (times, 1, y, x), "int32")


def _create(path: Path, axes: str, shape: tuple[int, ...], dtype: str) -> None:
    """An empty array whose shards hold all channels of one time point and plane."""
    import zarr  # takes 0.3 s, and every job that only reads and writes shards can do without
    from zarr.codecs import BloscCodec

    # Equal chunks: one that reaches beyond the image is padded, compressed and written all the same.
    pieces = [-(-size // CHUNK) if axis in "yx" else size for axis, size in zip(axes, shape, strict=True)]
    chunk = [-(-size // number) for size, number in zip(shape, pieces, strict=True)]
    shard = [
        1 if axis in "tz" else -(-size // part) * part for axis, size, part in zip(axes, shape, chunk, strict=True)
    ]
    zarr.create_array(
        str(path),
        shape=shape,
        chunks=tuple(chunk),
        shards=tuple(shard),
        dtype=dtype,
        compressors=BloscCodec(cname="zstd", clevel=LEVEL, shuffle="bitshuffle", blocksize=BLOCK),
        fill_value=0,
        dimension_names=list(axes),
    )


def _multiscales(axes: str, sizes: list[tuple[int, int]], omero: dict) -> list[dict]:
    pixel = omero["pixel_size_um"]
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    if np.isfinite(pixel):
        described = [axis | ({"unit": "micrometer"} if axis["name"] in "yx" else {}) for axis in described]
    else:
        pixel = 1.0
    scales = [[1.0] * (len(axes) - 2) + [pixel * sizes[0][0] / y, pixel * sizes[0][1] / x] for y, x in sizes]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for level, scale in enumerate(scales)
    ]
    return [{"axes": described, "datasets": datasets, "name": omero["name"]}]


def _omero(omero: dict) -> dict:
    """Channels as viewers read them; what the microscope told of each stands beside under the words of OMERO."""
    window = {"min": 0.0, "max": float(omero["full_scale"]), "start": 0.0, "end": float(omero["full_scale"])}
    channels = [
        {"label": name, "color": COLOURS[number % len(COLOURS)], "window": window, "active": True}
        for number, name in enumerate(omero["channels"])
    ]
    for channel, told in zip(channels, omero.get("told", []), strict=False):
        channel |= {TOLD[fact]: value for fact, value in told.items()}
        channel |= {"exposureTimeUnit": "ms"} if "exposure_ms" in told else {}
    return {"channels": channels}


def _levels(path: Path) -> list[Path]:
    """Arrays of an image's pyramid, finest first."""
    return sorted(child for child in path.iterdir() if child.name.isdigit())


def _field_path(path: Path, well: str, site: int) -> Path:
    return Path(path, *split_well(well), str(site))


def write_field(path: Path, well: str, site: int, time: int, levels: list[npt.NDArray], vouch: tuple[str, str]) -> None:
    """Write a field's raw pixels at one time point, all pyramid levels.

    Parameters
    ----------
    path : Path
        The plate.
    well, site, time : str, int, int
        The field; `time` counts from 0.
    levels : list of ndarray
        (C, Y, X) each, finest first, as many as the skeleton has.
    vouch : tuple of str
        Key and checksum of the finest level.
    """
    field = _field_path(path, well, site)
    _vouch(field / "0", time, None)
    for level, pixels in enumerate(levels):
        write_shard(field / str(level), time, pixels[:, np.newaxis])
    _vouch(field / "0", time, vouch)


def write_planes(
    path: Path, well: str, site: int, time: int, planes: Iterable[npt.NDArray], vouch: tuple[str, str]
) -> None:
    """Write all planes of a field at one time point, (C, Y, X) each; `vouch` is key and checksum of its image."""
    array = _field_path(path, well, site) / STACK / "0"
    _vouch(array, time, None)
    for number, pixels in enumerate(planes):
        write_shard(array, time, pixels[:, np.newaxis], number)
    _vouch(array, time, vouch)


def keeps_planes(path: Path, well: str, site: int) -> bool:
    """Whether the plate was laid out to keep all planes of this field."""
    return (_field_path(path, well, site) / STACK).is_dir()


def reset_field(path: Path, well: str, site: int, time: int) -> None:
    """Take back a field's pixels: it reads as fill value, and nothing vouches for it."""
    field = _field_path(path, well, site)
    for image in [field, field / STACK] if keeps_planes(path, well, site) else [field]:
        _vouch(image / "0", time, None)
        for level in _levels(image):
            clear_shard(level, time)


def reset_labels(path: Path, well: str, site: int, time: int) -> None:
    """Take back a field's labels, for a field that is excluded now."""
    for name in COMPARTMENTS:
        folder = _field_path(path, well, site) / "labels" / name
        _vouch(folder / "0", time, None)
        for level in _levels(folder):
            clear_shard(level, time)


def write_labels(
    path: Path, well: str, site: int, time: int, labels: dict[str, npt.NDArray], vouch: tuple[str, str]
) -> None:
    """Write a field's label images, (Y, X) int32 each, at one time point; `vouch` is their key and checksum."""
    for name in COMPARTMENTS:
        folder = _field_path(path, well, site) / "labels" / name
        _vouch(folder / "0", time, None)
        for level in _levels(folder):
            step = 2 ** int(level.name)  # a label cannot be averaged: every second pixel stands for its square
            write_shard(level, time, labels[name][np.newaxis, ::step, ::step])
        _vouch(folder / "0", time, vouch)


def read_field(path: Path, well: str, site: int, time: int, key: str, *, channels: slice = slice(None)) -> npt.NDArray:
    """Raw pixels (C, Y, X) of a field, in the dtype of the camera; all channels, or a run of them.

    Raises
    ------
    StaleError
        If the pixels are not those the table's key speaks of, or, of all channels, not those that were written.
    """
    array = _field_path(path, well, site) / "0"
    expected = _check(array, time, key, "ingest_part")
    pixels = _read(array, time, "ingest_part", channels)[:, 0]
    if channels == slice(None):  # the checksum is that of all channels
        _compare(expected, array, time, "ingest_part", pixels)
    return pixels


def read_labels(path: Path, well: str, site: int, time: int, key: str) -> dict[str, npt.NDArray[np.int32]]:
    """Label images of a field, compartment to (Y, X) int32; raises `StaleError` like `read_field`."""
    labels = {}
    for name in COMPARTMENTS:
        array = _field_path(path, well, site) / "labels" / name / "0"
        expected = _check(array, time, key, "segment_part")
        labels[name] = _read(array, time, "segment_part")[0]
    _compare(expected, array.parents[1], time, "segment_part", *labels.values())
    return labels


def _read(array: Path, time: int, rule: str, places: slice = slice(None)) -> npt.NDArray:
    try:
        return read_shard(array, time, places)
    except (ValueError, RuntimeError) as error:  # what a damaged index or chunk leads the codec to
        msg = f"pixels of {array} at time {time} are damaged ({error}); rerun rule {rule} (-R {rule})"
        raise StaleError(msg) from error


def _vouch(array: Path, time: int, vouch: tuple[str, str] | None) -> None:
    """Set, or with None clear, what an array's attributes say of one time point; the rest of `zarr.json` stays."""
    document = _document(array)
    held = document["attributes"].setdefault("plateline", {})
    held.pop(str(time), None)
    if vouch is not None:
        held[str(time)] = {"key": vouch[0], "checksum": vouch[1]}
    write_whole(array / "zarr.json", lambda file: file.write_text(json.dumps(document, indent=1)))


def _check(array: Path, time: int, key: str, rule: str) -> str:
    """Checksum of the pixels, which must have this key."""
    held = _document(array)["attributes"].get("plateline", {}).get(str(time), {})
    if held.get("key") != key:
        got = held.get("key", "none")
        msg = f"pixels of {array} at time {time} have key {got}; expected {key}; rerun rule {rule} (-R {rule})"
        raise StaleError(msg)
    return held["checksum"]


def _document(array: Path) -> dict:
    """The `zarr.json` of an array that was laid out."""
    if not (array / "zarr.json").is_file():
        msg = f"{array} is gone, but a table still speaks of it; rerun rule ingest_plate (-R ingest_plate)"
        raise StaleError(msg)
    return json.loads((array / "zarr.json").read_text())


def _compare(expected: str, array: Path, time: int, rule: str, *pixels: npt.NDArray) -> None:
    """Refuse pixels that are not those that were written: a lost shard would read as fill value."""
    if (got := checksum(*pixels)) != expected:
        msg = (
            f"pixels of {array} at time {time} have checksum {got}; expected {expected}: deleted or damaged since they "
            f"were written; rerun rule {rule} (-R {rule})"
        )
        raise StaleError(msg)


def read_stack(path: Path, fields: pd.DataFrame, channel: int) -> npt.NDArray:
    """Raw pixels (N, Y, X) of one channel of several fields, rows of a field table with `Metadata_Key`."""
    wanted = fields[[*FIELD[1:], "Metadata_Key"]].itertuples(index=False)
    planes = [read_field(path, *place, channels=slice(channel, channel + 1))[0] for place in wanted]
    return np.stack(planes) if planes else np.zeros((0, *fields[["height", "width"]].max().fillna(0).astype(int)))
