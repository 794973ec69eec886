"""The layout `nd2`: files of Nikon NIS-Elements, through the library `nd2`.

A file holds one well or the positions of many. Its loops over time, z and position are read; others are refused.
"""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from plateline.errors import ImageError
from plateline.layouts import containers


def index(source: Path, *, plate: str, shape: int, regex: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table of all image planes of a plate, and what is not in it; see `plateline.layouts.containers.index_files`.

    The name of an image is that of its position, empty for a file with one position.
    """
    containers.load_reader("nd2", "nd2")
    return containers.index_files(source, ".nd2", _describe, plate=plate, shape=shape, regex=regex)


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels (Y, X) of one plane; see `plateline.layouts.containers.read_one`."""
    return containers.read_one(source, path, page, _read)


def _describe(file: Path) -> list[dict[str, Any]]:
    with containers.load_reader("nd2", "nd2").ND2File(file) as opened:
        frames: tuple[dict[str, int], ...] = opened.loop_indices or ({},)
        others = sorted({axis for frame in frames for axis in frame} - set("TPZC"))
        if others:
            msg = f"it has a loop over {', '.join(others)}; expected time, position and z"
            raise ImageError(msg)
        count, whole = opened.sizes.get("C", 1), _whole(opened)
        points = _points(opened)
        channels = opened.metadata.channels or []
        return [
            {**whole, **_place(frame, points), **_channel(channels, c), "number": c, "page": number * count + c}
            for number, frame in enumerate(frames)
            for c in range(count)
        ]


def _whole(opened: Any) -> dict[str, Any]:
    """What all planes of a file share."""
    voxel, dtype = opened.voxel_size(), str(opened.dtype)
    return {
        "height": int(opened.sizes["Y"]),
        "width": int(opened.sizes["X"]),
        "dtype": dtype,
        "pixel_size_um": containers.named.side(float(voxel.x), float(voxel.y)),
        "full_scale": containers.largest_value(dtype, opened.attributes.bitsPerComponentSignificant),
        "reason": "its pixels are colours (RGB); expected one channel a plane" if opened.is_rgb else "",
    }


def _points(opened: Any) -> list[Any]:
    """Positions that the stage went to."""
    loops = [loop for loop in opened.experiment if loop.type == "XYPosLoop"]
    return list(loops[0].parameters.points) if loops else []


def _place(frame: dict[str, int], points: list[Any]) -> dict[str, Any]:
    """Where and when a frame was taken."""
    number = frame.get("P", 0)
    point = points[number] if number < len(points) else None
    stage = dict(zip("xyz", point.stagePositionUm, strict=False)) if point else {}
    return {
        "image": (point.name or f"{number + 1}") if point else "",
        "tile": number,
        "Metadata_Timepoint": frame.get("T", 0),
        "z": frame.get("Z", 0),
        **containers.known(**{f"position_{axis}_um": um for axis, um in stage.items()}),
    }


def _channel(channels: list[Any], number: int) -> dict[str, Any]:
    told = channels[number].channel if number < len(channels) else None
    if told is None:
        return {"channel_name": ""}
    waves = containers.known(emission_nm=told.emissionLambdaNm, excitation_nm=told.excitationLambdaNm)
    return {"channel_name": told.name or "", **waves}


def _read(file: Path, page: int) -> npt.NDArray[Any]:
    with containers.load_reader("nd2", "nd2").ND2File(file) as opened:
        count = opened.sizes.get("C", 1)
        frame = opened.read_frame(page // count)
        return frame if count == 1 else frame[page % count]
