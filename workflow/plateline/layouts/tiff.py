"""TIFF files: what a header tells of its planes, and the pixels of one plane.

No pixel is read for a header, and no tag is believed that is not plain.
"""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import tifffile

from plateline.errors import ImageError

_MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "\\u00b5m": 1.0, "nm": 1e-3, "mm": 1e3}
# Larger "pixels" are a resolution for printing: 72 dots an inch are 353 µm, 1200 are 21 µm.
_LARGEST_PIXEL_UM = 20.0


def read_pages(file: Path) -> tuple[str, list[dict[str, Any]]]:
    """Axis of a file's pages, `z` or `timepoint`, and per full-size page the columns that its header gives.

    Parameters
    ----------
    file : Path

    Returns
    -------
    axis : str
    pages : list of dict
        `page`, `height`, `width`, `dtype`, `pixel_size_um`, `full_scale` of each page.

    Raises
    ------
    ImageError
        With the reason, if the header cannot be used.
    """
    try:
        with tifffile.TiffFile(file) as tif:
            return _read_header(tif)
    except MemoryError:
        raise
    except Exception as error:  # tifffile raises whatever a broken header leads it to
        raise ImageError(_reason(error)) from error


def read_plane(source: Path, path: str, page: int) -> npt.NDArray[Any]:
    """Pixels of one plane.

    Parameters
    ----------
    source, path, page
        Folder, path and page as in the table of `index`.

    Returns
    -------
    array of shape (Y, X)
        In the dtype of the file.

    Raises
    ------
    ImageError
        If the path leaves the folder or the file is missing, empty, truncated, not decodable, without this page, or
        this page is not one 2-D plane. The message holds the path and the reason.
    """
    file = source / path
    if not file.resolve().is_relative_to(source.resolve()):
        msg = f"{path} leads outside the source folder {source}; images are read only from inside it"
        raise ImageError(msg)
    try:
        with tifffile.TiffFile(file) as tif:
            return _decode(tif, page)
    except MemoryError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever a broken file leads them to
        msg = f"cannot read page {page} of {path} in {source}: {_reason(error)}; export the image again"
        raise ImageError(msg) from error


def _read_header(tif: tifffile.TiffFile) -> tuple[str, list[dict[str, Any]]]:
    """Axis of the pages (`z` or `timepoint`) and, per full-size page, the columns that its header gives."""
    # Overviews of a pyramid and thumbnails are flagged as reduced; they are no planes.
    pages = [page for page in cast("list[tifffile.TiffPage]", tif.pages) if not page.is_reduced]
    sizes = _declared_sizes(tif)
    declared = int(np.prod(list(sizes.values())))
    if sizes and declared != len(pages) and not (tif.is_ome and len(pages) == 1):  # an OME set may span many files
        msg = f"the header declares {declared} planes, the file holds {len(pages)} pages"
        raise ImageError(msg)
    stacked = [axis for axis, size in sizes.items() if size > 1] if len(pages) > 1 else []
    if len(stacked) > 1 or "channel" in stacked:
        msg = f"{len(pages)} pages along {' and '.join(stacked)}; expected one channel per file, pages along z or time"
        raise ImageError(msg)
    # Bits that are no whole bytes are the camera's own.
    bits = int(_ome_pixels(tif).get("SignificantBits", 0)) or pages[0].bitspersample * bool(pages[0].bitspersample % 8)
    pixel_size_um = _pixel_size_um(tif)
    return (stacked or ["z"])[0], [_describe(page, pixel_size_um, bits) for page in pages]


def _declared_sizes(tif: tifffile.TiffFile) -> dict[str, int]:
    """Planes along each named axis as the OME, ImageJ or tifffile header has it; empty without such a header."""
    if tif.is_ome:
        pixels = _ome_pixels(tif)
        return {axis: int(pixels.get(f"Size{axis[0].upper()}", 1)) for axis in ("z", "timepoint", "channel")}
    if tif.is_imagej:
        ij = tif.imagej_metadata or {}
        sizes = {"z": ij.get("slices", 1), "timepoint": ij.get("frames", 1), "channel": ij.get("channels", 1)}
        return sizes if "images" in ij else {}
    shaped = (tif.shaped_metadata or [{}])[0]
    words = {"Z": "z", "T": "timepoint", "C": "channel"}
    named = zip(shaped.get("axes", ""), shaped.get("shape", ()), strict=False)
    return {words[axis]: size for axis, size in named if axis in words}


def _ome_pixels(tif: tifffile.TiffFile) -> dict[str, str]:
    """Attributes of the first ``<Pixels>`` element, if any; by expression, so that no XML entity is ever expanded."""
    element = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>", tif.ome_metadata or "")
    pairs = re.findall(r"""(\w+)\s*=\s*("[^"]*"|'[^']*')""", element[1] if element else "")
    return {name: text[1:-1] for name, text in pairs}


def _describe(page: Any, pixel_size_um: float, bits: int) -> dict[str, Any]:
    if len(page.shape) != 2:
        msg = f"page {page.index} has shape {page.shape}; expected one 2-D plane (Y, X) of a single sample"
        raise ImageError(msg)
    return {
        "page": int(page.index),
        "height": int(page.shape[0]),
        "width": int(page.shape[1]),
        "dtype": str(page.dtype),
        "pixel_size_um": pixel_size_um,
        "full_scale": _full_scale(page, bits),
    }


def _full_scale(page: Any, bits: int) -> float:
    """Largest value of the camera, of its bits where the header tells them (0: it does not), else of the dtype."""
    dtype = np.dtype(page.dtype)
    if dtype.kind not in "iu":
        return np.nan
    largest = int(np.iinfo(dtype).max)
    told = page.tags.valueof("MaxSampleValue")
    # Some writers put the largest pixel of this one image there; 255, 4095 or 65535 is a camera.
    if isinstance(told, int) and 255 <= told < largest and told & (told + 1) == 0:
        return float(told)
    return float(min(largest, 2**bits - 1)) if bits else float(largest)


def _pixel_size_um(tif: tifffile.TiffFile) -> float:
    """Side of a square pixel in µm; NaN unless one header gives it plainly for both axes."""
    y, x = _ome_sides_um(tif) if tif.is_ome else _tag_sides_um(tif)
    return x if 0 < x <= _LARGEST_PIXEL_UM and abs(y - x) <= 1e-3 * x else np.nan


def _ome_sides_um(tif: tifffile.TiffFile) -> list[float]:
    pixels = _ome_pixels(tif)
    sides = [(pixels.get(f"PhysicalSize{a}", "nan"), pixels.get(f"PhysicalSize{a}Unit", "µm")) for a in "YX"]
    return [float(size) * _MICROMETRES.get(unit, np.nan) for size, unit in sides]


def _tag_sides_um(tif: tifffile.TiffFile) -> list[float]:
    """Sides from the resolution tags, whose unit is ImageJ's where ImageJ wrote the file."""
    tags = cast(tifffile.TiffPage, tif.pages[0]).tags
    if tif.is_imagej:
        unit = _MICROMETRES.get(str((tif.imagej_metadata or {}).get("unit", "")).lower(), np.nan)
    else:
        unit = {2: 25400.0, 3: 10000.0}.get(int(tags.valueof("ResolutionUnit", default=1)), np.nan)
    resolutions = [tags.valueof(f"{a}Resolution", default=(0, 1)) for a in "YX"]
    return [unit * below / above if above else np.nan for above, below in resolutions]


def _decode(tif: tifffile.TiffFile, number: int) -> npt.NDArray[Any]:
    if not 0 <= number < len(tif.pages):
        msg = f"the file holds {len(tif.pages)} pages, unlike its index"
        raise ImageError(msg)
    page: Any = tif.pages[number]
    if len(page.shape) != 2:
        msg = f"its shape is {page.shape}; expected one 2-D plane (Y, X)"
        raise ImageError(msg)
    # tifffile fills what lies behind the end of the file with zeros; that would read as a dark corner.
    end = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > tif.filehandle.size or not all(page.databytecounts):
        msg = f"the file is truncated or was never finished: its pixels end at byte {end} of {tif.filehandle.size}"
        raise ImageError(msg)
    return page.asarray(maxworkers=1)  # a job has one process per core already


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
