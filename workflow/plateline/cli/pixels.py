"""Pixels of a few fields of a plate, read from its source as `ingest` would, or from what is ingested already."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from plateline import config as settings
from plateline import ingest, methods, store
from plateline.errors import ConfigError
from plateline.identity import FIELD, channel_numbers


class Plate(NamedTuple):
    """A plate that fields can be read from."""

    fields: Any  # a frame with the columns of FIELD
    channels: list[str]
    pixel_size_um: float
    # (well, site, time, channels) -> (C, Y, X) in the dtype of the camera
    read: Callable[..., Any]
    origin: str


def open_plate(config: dict, line: dict[str, str]) -> Plate:
    """A plate of the sheet: its source folder, or its OME-Zarr where the source is gone.

    Parameters
    ----------
    config : dict
        With defaults.
    line : dict
        Of the sheet, with defaults.

    Returns
    -------
    Plate
        Its `read` raises `ImageError` for an image that cannot be read as declared.

    Raises
    ------
    ConfigError
        If the source is gone and the plate is not ingested.
    SourceError
        If the source cannot be turned into an index.
    """
    return _in_source(config, line) if Path(line["source"]).is_dir() else _ingested(line)


def _in_source(config: dict, line: dict[str, str]) -> Plate:
    indexing, writing = (settings.section(config, "ingest", grain, line) for grain in ("plate", "part"))
    layout, source = methods.load("ingest", indexing["layout"]), Path(indexing["source"])
    found, left_out = layout.index(source, plate=line["plate"], shape=int(indexing["shape"]), **indexing["options"])
    index, _ = ingest.index_table(found, left_out, plate=line["plate"], channels=indexing["channels"])
    shared = ingest.geometry(index)
    planes = dict(tuple(index.groupby(FIELD[1:])))

    def read(well: str, site: int, time: int, channels: list[str]):
        return ingest.build_field(
            planes[well, site, time],
            shared._replace(channels=channels),
            partial(layout.read_plane, source),
            projection=writing["projection"],
        )

    fields = index[FIELD].drop_duplicates()
    return Plate(fields, shared.channels, shared.pixel_size_um, read, f"the source folder {source}")


def _ingested(line: dict[str, str]) -> Plate:
    plate, parts = line["plate"], range(1, int(line["parts"]) + 1)
    tables = [Path(f"results/ingest/{plate}/part-{part}.parquet") for part in parts]
    if missing := [str(table) for table in tables if not table.is_file()]:
        msg = f"plate {plate}: its source {line['source']} is gone and it is not ingested: no {missing[0]}"
        raise ConfigError(msg)
    table = store.read_tables(tables)
    good = table[table["status"] == "ok"]
    keys = good.set_index(FIELD[1:])["Metadata_Key"].to_dict()
    names = table["channels"].iloc[0].split("|") if len(table) else []

    def read(well: str, site: int, time: int, channels: list[str]):
        pixels = store.read_field(store.images_of(plate), well, site, time, keys[well, site, time])
        return pixels[channel_numbers(names, channels, key="segment", plate=plate)]

    return Plate(good[FIELD], names, float(table["pixel_size_um"].median()), read, f"{store.images_of(plate)}")
