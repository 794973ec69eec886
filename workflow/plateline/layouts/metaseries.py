"""The MetaSeries header that MetaXpress and MetaMorph write into their TIFF files.

Read by expression, so that no XML entity is ever expanded; what is not plain is not believed.
"""

import html
import math
import re
from pathlib import Path
from typing import Any, cast

import tifffile

from plateline.errors import ImageError

_PROP = re.compile(r'<(?:prop|custom-prop)\s+id="([^"]*)"\s+type="[^"]*"\s+value="([^"]*)"\s*/>')
_MICROMETRES = {"um", "µm", "μm", "micron", "microns"}
_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "msec": 1.0, "s": 1e3, "sec": 1e3}
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)")


def read_properties(file: Path) -> dict[str, str]:
    """Properties of the first plane by their name; empty where the file has no MetaSeries header.

    Raises
    ------
    ImageError
        If the file is no TIFF.
    """
    try:
        with tifffile.TiffFile(file) as tif:
            text = cast(tifffile.TiffPage, tif.pages[0]).description
    except MemoryError:
        raise
    except Exception as error:  # tifffile raises whatever a broken header leads it to
        raise ImageError(" ".join(str(error).split()) or type(error).__name__) from error
    if "<MetaData>" not in text:
        return {}
    return {name: html.unescape(value) for name, value in _PROP.findall(text)}


def is_projection(properties: dict[str, str]) -> bool:
    """Whether the microscope made this plane from several."""
    return "Z Projection Method" in properties


def plane_facts(properties: dict[str, str], full_scale: float) -> dict[str, Any]:
    """Columns of a plane that its properties tell plainly.

    Parameters
    ----------
    properties : dict of str to str
        Of `read_properties`.
    full_scale : float
        Largest value that the file itself allows.

    Returns
    -------
    dict
        Of `pixel_size_um`, `full_scale`, and the columns of `plateline.layouts.planes.EXTRA`, those that are known.
        `wavelength` is that of the emission. Stage positions are absolute, in µm.
    """
    numbers = {
        "pixel_size_um": _pixel_size_um(properties),
        "full_scale": _full_scale(properties, full_scale),
        "exposure_ms": _exposure_ms(properties.get("Exposure Time", "")),
        "emission_nm": _number(properties.get("wavelength", ""), positive=True),
        "position_x_um": _number(properties.get("stage-position-x", "")),
        "position_y_um": _number(properties.get("stage-position-y", "")),
        "position_z_um": _number(properties.get("z-position", "")),
    }
    texts = {
        "channel_name": properties.get("_IllumSetting_", ""),
        "acquired": _TIME.sub(r"\1-\2-\3T\4", properties.get("acquisition-time-local", "")),
    }
    return {name: n for name, n in numbers.items() if not math.isnan(n)} | {name: t for name, t in texts.items() if t}


def _number(text: str, *, positive: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) and (number > 0 or not positive) else math.nan


def _pixel_size_um(properties: dict[str, str]) -> float:
    """Side of a pixel where the calibration is on, in µm, and the same along both axes."""
    on = properties.get("spatial-calibration-state", "").lower() in {"on", "true"}
    plain = properties.get("spatial-calibration-units", "").lower() in _MICROMETRES
    y, x = (_number(properties.get(f"spatial-calibration-{axis}", ""), positive=True) for axis in "yx")
    return x if on and plain and abs(y - x) <= 1e-3 * x else math.nan


def _full_scale(properties: dict[str, str], largest: float) -> float:
    """Largest value of the camera; the file's own where it was not told, or planes were added up."""
    bits = _number(properties.get("Camera Bit Depth", ""), positive=True)
    summed = "sum" in properties.get("Z Projection Method", "").lower()
    if math.isnan(bits) or summed or bits != int(bits) or not 8 <= bits <= 32:
        return largest
    return min(largest, 2.0**bits - 1)


def _exposure_ms(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*(\w+)", text.strip())
    return _number(match[1], positive=True) * _MILLISECONDS.get(match[2].lower(), math.nan) if match else math.nan
