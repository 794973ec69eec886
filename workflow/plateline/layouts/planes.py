"""The table of image planes that every layout gives, and the files of a source folder.

Owns the columns, the order, and what is refused in any layout: a folder that is missing, a plane that two files give, a
path or link that leads out of the source. No image file is lost: each is in the table or left out with a reason.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateline.errors import SourceError

PLANE = ["Metadata_Well", "Metadata_Site", "Metadata_Timepoint", "z", "channel"]
COLUMNS = [*PLANE, "path", "page", "height", "width", "dtype", "pixel_size_um", "full_scale", "status", "reason"]
# What a microscope may tell beside, NaN or empty text where it does not: stage position, exposure, wavelengths, time.
EXTRA = {
    "channel_name": "",
    "exposure_ms": np.nan,
    "excitation_nm": np.nan,
    "emission_nm": np.nan,
    "position_x_um": np.nan,
    "position_y_um": np.nan,
    "position_z_um": np.nan,
    "acquired": "",
}
# What a plane has whose header cannot be read.
UNREADABLE = {
    "page": 0,
    "height": 0,
    "width": 0,
    "dtype": "",
    "pixel_size_um": np.nan,
    "full_scale": np.nan,
    "status": "unreadable",
}
# What counts as an image when the expression does not match it; other files (logs, tables) are nobody's loss.
_IMAGES = {
    ".tif",
    ".tiff",
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".jp2",
    ".flex",
    ".stk",
    ".c01",
    ".dib",
    ".nd2",
    ".czi",
    ".lif",
}


def tabulate(rows: list[dict[str, Any]], source: Path) -> pd.DataFrame:
    """Planes as a table, sorted by well (as text), site, timepoint, z and channel.

    Parameters
    ----------
    rows : list of dict
        One per plane: `COLUMNS`, and of `EXTRA` what is known.
    source : Path
        For the message.

    Returns
    -------
    pd.DataFrame
        `COLUMNS`, then the columns of `EXTRA`.

    Raises
    ------
    SourceError
        If two rows are the same plane.
    """
    planes = pd.DataFrame([EXTRA | row for row in rows], columns=[*COLUMNS, *EXTRA])
    planes = planes.sort_values(PLANE, kind="stable", ignore_index=True)
    _refuse_repeats(planes, source)
    return planes


def left_out_table(left_out: list[tuple[str, str]]) -> pd.DataFrame:
    """`path` and `reason` of the files a layout does not take, sorted."""
    return pd.DataFrame(sorted(left_out), columns=["path", "reason"], dtype=object)


def _refuse_repeats(planes: pd.DataFrame, source: Path) -> None:
    repeated = planes[planes.duplicated(PLANE, keep=False)]
    if len(repeated):
        first, second = repeated.iloc[0], repeated.iloc[1]
        plane = ", ".join(f"{column.removeprefix('Metadata_')} {first[column]}" for column in PLANE)
        msg = (
            f"{first['path']} and {second['path']} in {source} are both {plane}; expected one file per plane: say in "
            "the layout's options what tells them apart (site, timepoint, z), or take only one of them"
        )
        raise SourceError(msg)


def list_files(source: Path, plate: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Relative posix paths of all regular files, sorted, and (path, reason) of the links that are not followed.

    Raises
    ------
    SourceError
        If there is no such folder.
    """
    if not source.is_dir():
        msg = f"source {source} of plate {plate} is no folder; correct `source` in the plate sheet"
        raise SourceError(msg)
    home = source.resolve()
    files, left_out = [], []
    for file in source.rglob("*"):
        path = file.relative_to(source).as_posix()
        if file.is_symlink() and (reason := _refuse_link(file, home)):
            if is_image(path) or file.is_dir():
                left_out.append((path, reason))
        elif file.is_file():
            files.append(path)
    return sorted(files), left_out


def _refuse_link(file: Path, home: Path) -> str:
    """Why a link is not read; empty for a link to a file inside the source."""
    if file.is_dir():
        return "a link to a folder is not followed"
    if not file.is_file():
        return "the link leads to no file"
    return "" if file.resolve().is_relative_to(home) else "the link leads outside the source folder"


def is_image(path: str) -> bool:
    """Whether a file name is that of an image, whatever its format."""
    return Path(path).suffix.lower() in _IMAGES
