"""The layout `lif`: files of Leica LAS, through the library `liffile`.

A file holds a tree of images. Tiles of a mosaic are sites of their well. Images with further axes (wavelength,
rotation) or with colours are unreadable.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.layouts import containers

_AXES = "MTZC"


def index(source: Path, *, plate: str, shape: int, regex: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of a plate, and what is not in it; see `plateline.layouts.containers.index_files`.

    The name of an image is its path in the tree of the file, such as ``A/1/R1``.
    """
    containers.load_reader("liffile", "lif")
    return containers.index_files(source, ".lif", _describe, plate=plate, shape=shape, regex=regex)


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels (Y, X) of one plane; see `plateline.layouts.containers.read_one`."""
    return containers.read_one(source, path, page, _read)


def _planes(opened: Any) -> Iterator[tuple[Any, dict[str, int]]]:
    """Images and the places of their planes, in the order of the pages; an image of other axes is one plane."""
    for image in opened.images:
        counts = {axis: image.sizes.get(axis, 1) for axis in _AXES}
        for at in np.ndindex(*counts.values()) if not _odd(image) else [(0,) * len(_AXES)]:
            yield image, dict(zip(_AXES, map(int, at), strict=True))


def _odd(image: Any) -> str:
    """Why an image is no stack of planes; empty for one that is."""
    odd = [axis for axis in image.sizes if axis not in {*_AXES, "Y", "X"}]
    missing = [axis for axis in "YX" if axis not in image.sizes]
    return f"its axes are {', '.join(image.sizes)}; expected y, x and of m, t, z, c" if odd or missing else ""


def _describe(file: Path) -> list[dict[str, Any]]:
    with containers.load_reader("liffile", "lif").LifFile(file) as opened:
        planes = list(_planes(opened))
        whole = {id(image): _whole(image) for image, _ in planes}
        channels = {id(image): _channels(image) for image, _ in planes}
        return [
            {**whole[id(image)], **_place(at), **_channel(image, channels[id(image)], at["C"]), "page": page}
            for page, (image, at) in enumerate(planes)
        ]


def _whole(image: Any) -> dict[str, Any]:
    """What all planes of an image share; the coordinates of the library are metres."""
    sides = [
        1e6 * (at[-1] - at[0]) / (len(at) - 1) for at in map(image.coords.get, "XY") if at is not None and len(at) > 1
    ]
    odd = _odd(image)
    return {
        "image": image.path,
        "height": int(image.sizes.get("Y", 0)),
        "width": int(image.sizes.get("X", 0)),
        "dtype": str(np.dtype(image.dtype).newbyteorder("=")),
        "pixel_size_um": containers.named.side(*map(float, sides)) if len(sides) == 2 else np.nan,
        "reason": odd,
    }


def _place(at: dict[str, int]) -> dict[str, int]:
    return {"tile": at["M"], "Metadata_Timepoint": at["T"], "z": at["Z"]}


def _channels(image: Any) -> list[dict[str, str]]:
    """What the header says of each channel."""
    found = image.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    return [channel.attrib for channel in found]


def _channel(image: Any, channels: list[dict[str, str]], number: int) -> dict[str, Any]:
    told = channels[number] if number < len(channels) else {}
    bits = containers.named.whole(told.get("Resolution"))
    return {
        "number": number,
        "channel_name": told.get("LUTName", ""),
        "full_scale": containers.largest_value(image.dtype, bits),
    }


def _read(file: Path, page: int) -> npt.NDArray[Any]:
    with containers.load_reader("liffile", "lif").LifFile(file) as opened:
        image, at = next((plane for number, plane in enumerate(_planes(opened)) if number == page), (None, {}))
        if image is None:
            msg = "the file holds fewer planes, unlike its index"
            raise ValueError(msg)
        return image.frame(**{axis: place for axis, place in at.items() if axis in image.sizes})
