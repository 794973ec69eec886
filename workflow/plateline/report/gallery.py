"""Pictures of cells: the composite with outlines and every channel alone, all wells at one contrast."""

import re

import numpy as np
import numpy.typing as npt
from matplotlib import colors
from skimage.segmentation import find_boundaries

from plateline.errors import LabelError
from plateline.report.canvas import file_stem, png
from plateline.report.tables import number

# Additive colours that stay apart for most colour vision; DNA keeps its customary blue.
_DNA = "#4478ff"
_OTHERS = ("#ffb347", "#ff5fa2", "#3fd6a0", "#d9d9d9")
_NUCLEI_LINE, _CELL_LINE = (1.0, 1.0, 1.0), (0.62, 0.88, 0.92)
# Doubled pixels let an outline run between two pixels of the image instead of over them.
_ZOOM = 2


def cut_centre(picture: npt.NDArray, size_px: int) -> npt.NDArray:
    """Square of `size_px` from the middle of (..., Y, X); smaller pictures as they are."""
    y, x = ((length - min(length, size_px)) // 2 for length in picture.shape[-2:])
    return picture[..., y : y + size_px, x : x + size_px]


def contrast(pictures: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    """Darkest and brightest level of each channel over all pictures, (C, 2): the 0.5th and 99.7th percentile.

    Pictures are (C, Y, X), sizes may differ, NaN is ignored; a constant channel gets limits one hair apart.
    """
    limits = []
    for planes in zip(*pictures, strict=True):
        pooled = np.concatenate([plane.ravel() for plane in planes]).astype(np.float64)
        low, high = np.nanpercentile(pooled, [0.5, 99.7]) if np.isfinite(pooled).any() else (0.0, 1.0)
        limits.append((low, max(high, low + 1e-6)))
    return np.array(limits).reshape(-1, 2)


def channel_colours(channels: list[str]) -> list[str]:
    """Colour of each channel in the composite: blue for a DNA stain, then amber, pink, green, grey, and again."""
    if len(channels) == 1:
        return ["#ffffff"]
    nuclear = [bool(re.search("dna|dapi|hoechst|nucle", channel, re.IGNORECASE)) for channel in channels]
    others = iter(_OTHERS * len(channels))
    return [_DNA if dna and not any(nuclear[:i]) else next(others) for i, dna in enumerate(nuclear)]


def composite(scaled: npt.NDArray[np.float64], hues: list[str]) -> npt.NDArray[np.float64]:
    """Channels (C, Y, X) in 0..1 added up in their colours, (Y, X, 3) in 0..1."""
    tints = np.array([colors.to_rgb(hue) for hue in hues])
    return np.clip(np.einsum("cyx,ck->yxk", scaled, tints), 0, 1)


def outline(picture: npt.NDArray[np.float64], nuclei: npt.NDArray, cells: npt.NDArray) -> npt.NDArray[np.float64]:
    """The (Y, X, 3) picture at twice its size with a line just inside every cell and every nucleus."""
    large = picture.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)
    for labels, line in ((cells, _CELL_LINE), (nuclei, _NUCLEI_LINE)):
        edges = find_boundaries(labels.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1), mode="inner")
        large[edges] = line
    return large


def cell_pictures(gallery: list[dict], channels: list[str], *, size_px: int) -> tuple[dict[str, bytes], dict]:
    """PNG files of all pictures, and how the page lays them out.

    Parameters
    ----------
    gallery : list of dict
        Each with ``well``, ``title``, ``image`` (C, Y, X) float32 in shares of the full scale, ``nuclei`` and ``cells``
        (Y, X) integer labels. May be empty.
    channels : list of str
        Names in the order of C.
    size_px : int
        Side of the square cut from the middle of each image.

    Returns
    -------
    dict of str to bytes
        File name to PNG.
    dict
        ``limits`` (channel, low, high, colour), ``blocks`` (wells beside each other, a row of files per
        picture kind), ``side`` (pixels) and ``across`` (wells in a row).

    Raises
    ------
    LabelError
        If an image and its labels differ in size, or the image has not one plane per channel.
    """
    files: dict[str, bytes] = {}
    if not gallery:
        return files, {"limits": [], "blocks": [], "side": size_px, "across": 0}
    for shot in gallery:
        _check(shot, channels)
    cut = [cut_centre(shot["image"], size_px) for shot in gallery]
    limits = contrast(cut)
    hues = channel_colours(channels)
    # Three beside each other are large enough to judge an outline; a fourth alone in a row would look lost.
    across = 4 if len(gallery) == 4 else min(3, len(gallery))
    blocks = []
    for start in range(0, len(gallery), across):
        part = range(start, min(start + across, len(gallery)))
        columns = [_pictures(gallery[i], cut[i], limits=limits, hues=hues, size_px=size_px) for i in part]
        names = [[_file_name(i, gallery[i]["well"], kind) for i in part] for kind in ("outlines", *channels)]
        files |= {
            name: data
            for row, line in enumerate(names)
            for name, data in zip(line, (column[row] for column in columns), strict=True)
        }
        rows = zip(["all channels, outlined", *channels], names, strict=True)
        blocks.append({"shots": [gallery[i] for i in part], "rows": [{"label": k, "files": n} for k, n in rows]})
    spans = [
        {"channel": c, "low": number(low), "high": number(high), "colour": hue}
        for c, (low, high), hue in zip(channels, limits, hues, strict=True)
    ]
    return files, {"limits": spans, "blocks": blocks, "side": size_px, "across": across}


def list_pictures(shown: dict, plate: str) -> list[dict[str, str]]:
    """The outlined pictures that `cell_pictures` laid out: ``Metadata_Plate``, ``well``, ``title`` and ``file``."""
    return [
        {"Metadata_Plate": plate, "well": shot["well"], "title": shot["title"], "file": file}
        for block in shown["blocks"]
        for shot, file in zip(block["shots"], block["rows"][0]["files"], strict=True)
    ]


def _file_name(number: int, well: str, kind: str) -> str:
    """Numbered, so that two sites of a well or two channels of like name cannot overwrite each other."""
    return "-".join(part for part in ("cells", str(number + 1), file_stem(well), file_stem(kind)) if part) + ".png"


def _pictures(
    shot: dict, image: npt.NDArray[np.float32], *, limits: npt.NDArray[np.float64], hues: list[str], size_px: int
) -> list[bytes]:
    """The outlined composite, then every channel in grey."""
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    scaled = np.clip((np.nan_to_num(image) - low) / (high - low), 0, 1)
    labels = (cut_centre(shot[compartment], size_px) for compartment in ("nuclei", "cells"))
    outlined = outline(composite(scaled, hues), *labels)
    return [png((outlined * 255).astype(np.uint8))] + [
        png((plane[..., None].repeat(3, axis=2) * 255).astype(np.uint8)) for plane in scaled
    ]


def _check(shot: dict, channels: list[str]) -> None:
    shape = shot["image"].shape
    if len(shape) != 3 or shape[0] != len(channels):
        msg = (
            f"picture of well {shot['well']} has shape {shape}; expected (C, Y, X) with a plane for each of {channels}"
        )
        raise LabelError(msg)
    for compartment in ("nuclei", "cells"):
        if shot[compartment].shape != shape[1:]:
            msg = (
                f"{compartment} of well {shot['well']} have shape {shot[compartment].shape}; expected {shape[1:]}"
                " as the image; rerun rule segment_part"
            )
            raise LabelError(msg)
