"""The layout `czi`: files of ZEISS ZEN, through the library `czifile`.

A file holds scenes, often one a well. The tiles of a scene are its sites; levels of a pyramid are no planes. Blocks
that the library cannot decode exclude their field.
"""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ImageError
from plateline.layouts import containers
from plateline.layouts.xml import parse_xml

_IMAGE = "./Metadata/Information/Image"


def index(source: Path, *, plate: str, shape: int, regex: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of a plate, and what is not in it; see `plateline.layouts.containers.index_files`.

    The name of an image is that of its scene, empty for a file without scenes.
    """
    containers.load_reader("czifile", "czi")
    return containers.index_files(source, ".czi", _describe, plate=plate, shape=shape, regex=regex)


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels (Y, X) of one plane; see `plateline.layouts.containers.read_one`."""
    return containers.read_one(source, path, page, _read)


def _describe(file: Path) -> list[dict[str, Any]]:
    with containers.load_reader("czifile", "czi").CziFile(str(file)) as opened:
        told = parse_xml((opened.metadata() or "<ImageDocument/>").encode(), file)
        scenes, channels, whole = _scenes(told), _channels(told), {"pixel_size_um": _pixel_size_um(told)}
        return [
            {**whole, **_plane(entry, scenes, channels), "page": page}
            for page, entry in enumerate(opened.subblock_directory)
            if not entry.pyramid_type and entry.stored_shape == entry.shape
        ]


def _plane(entry: Any, scenes: dict[int, str], channels: list[dict[str, Any]]) -> dict[str, Any]:
    """One block of pixels: a plane of one tile."""
    at = {axis.dimension: (axis.start, axis.size) for axis in entry.dimension_entries}
    others = [axis for axis, (_, size) in at.items() if axis not in "YX" and size > 1]
    dtype, samples = np.dtype(entry.dtype).base, entry.shape[-1]
    colours = "its pixels are colours (RGB); expected one channel a plane" if samples > 1 else ""
    several = f"a block of it spans {', '.join(others)}; expected one plane" if others else ""
    number = at.get("C", (0, 1))[0]
    channel: dict[str, Any] = channels[number] if number < len(channels) else {"channel_name": "", "bits": None}
    scene = at.get("S", (0, 1))[0]
    return {
        "image": scenes.get(scene, str(scene + 1) if "S" in at else ""),
        "tile": (scene, at.get("M", (0, 1))[0]),  # two scenes may stand in one well
        "Metadata_Timepoint": at.get("T", (0, 1))[0],
        "z": at.get("Z", (0, 1))[0],
        "number": number,
        "height": int(at["Y"][1]),
        "width": int(at["X"][1]),
        "dtype": str(dtype),
        "full_scale": containers.largest_value(dtype, channel["bits"]),
        "reason": colours or several,
        **{fact: value for fact, value in channel.items() if fact != "bits"},
    }


def _scenes(told: Element) -> dict[int, str]:
    """Name of each scene; that of its well where the plate has one."""
    scenes = {}
    for scene in told.iterfind(f"{_IMAGE}/Dimensions/S/Scenes/Scene"):
        number = containers.named.whole(scene.get("Index"))
        if number is not None:
            scenes[number] = scene.findtext("ArrayName") or scene.get("Name") or ""
    return scenes


def _channels(told: Element) -> list[dict[str, Any]]:
    """What the header says of each channel; ZEN counts exposure in nanoseconds."""
    channels = []
    for channel in told.iterfind(f"{_IMAGE}/Dimensions/Channels/Channel"):
        number = lambda name, channel=channel: containers.named.number(channel.findtext(name))  # noqa: E731
        facts = containers.known(
            emission_nm=number("EmissionWavelength"),
            excitation_nm=number("ExcitationWavelength"),
            exposure_ms=number("ExposureTime") / 1e6,
        )
        bits = containers.named.whole(channel.findtext("ComponentBitCount"))
        channels.append({"channel_name": channel.get("Name", ""), "bits": bits, **facts})
    return channels


def _pixel_size_um(told: Element) -> float:
    """Side of a square pixel; ZEN writes metres."""
    sides = {
        item.get("Id"): 1e6 * containers.named.number(item.findtext("Value"))
        for item in told.iterfind("./Metadata/Scaling/Items/Distance")
    }
    return containers.named.side(sides.get("X", np.nan), sides.get("Y", np.nan))


def _read(file: Path, page: int) -> npt.NDArray[Any]:
    with containers.load_reader("czifile", "czi").CziFile(str(file)) as opened:
        entry = opened.subblock_directory[page]
        pixels = entry.data_segment().data(resize=False)
        sides = [axis.size for name in "YX" for axis in entry.dimension_entries if axis.dimension == name]
        if pixels.size != np.prod(sides):
            msg = f"its block has shape {pixels.shape}; expected one plane of {sides}"
            raise ImageError(msg)
        return pixels.reshape(sides)
