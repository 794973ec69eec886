"""Illuminations that another program saved: those the source names, kept beside its index, and those of a folder."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ConfigError, StaleError
from plateline.store.files import save_array
from plateline.store.keys import checksum
from plateline.store.tables import read_table


def keep_illuminations(
    source: Path, named: dict[str, list[str]], index: Path, plate: str
) -> tuple[dict[str, str], pd.DataFrame]:
    """Copy the illuminations that a source names beside its index, since the source may be gone later.

    Parameters
    ----------
    source : Path
        Folder of the plate's images.
    named : dict of str to list of str
        Channel -> paths inside the source of what it names, see `plateline.ingest.illuminations`.
    index : Path
        Table of image planes, beside which `{plate}_Illum{channel}.npy` is written. Copies of an earlier run go.
    plate : str

    Returns
    -------
    checksums : dict of str to str
        Channel -> checksum of what was kept.
    warnings : DataFrame
        `reason` of each channel of which nothing could be kept.
    """
    for old in index.parent.glob("*_Illum*.npy"):
        old.unlink()
    checksums, reasons = {}, []
    for channel, paths in named.items():
        try:
            kept = _load_one(source, paths)
        except ConfigError as error:
            reasons.append(f"illumination of channel {channel} is not kept: {error}")
            continue
        save_array(kept, _kept(index, plate, channel))
        checksums[channel] = checksum(kept)
    return checksums, pd.DataFrame({"reason": pd.Series(reasons, dtype=object)})


def _load_one(source: Path, paths: list[str]) -> npt.NDArray:
    """The one illumination that a channel of a plate has."""
    if len(paths) > 1:
        msg = f"the source names {len(paths)}, {', '.join(paths[:3])}; expected one a channel and plate"
        raise ConfigError(msg)
    if not (source / paths[0]).resolve().is_relative_to(source.resolve()):
        msg = f"{paths[0]} leads outside the source folder"
        raise ConfigError(msg)
    return _load(source / paths[0])


def read_illumination(folder: str, pattern: str, *, plate: str, channel: str, index: str | Path) -> dict[str, object]:
    """An illumination that another program saved as NPY.

    Parameters
    ----------
    folder : str
        Where the files are; empty for those that the source itself named.
    pattern : str
        Name of a file, with `{channel}` and, where plates have their own, `{plate}`.
    plate, channel : str
        What stands in their place.
    index : str or Path
        Table of image planes, which says what the source named.

    Returns
    -------
    dict
        `illum`, the array as it was saved, and `name`, the file and its channel.

    Raises
    ------
    ConfigError
        If the channel has no file, or the file is no array.
    StaleError
        If what was kept of the source is not what the index speaks of.
    """
    path = Path(folder, pattern.replace("{plate}", plate).replace("{channel}", channel))
    told = "" if folder else _told(index, channel)
    path = _kept(Path(index), plate, channel) if told else path
    if not (folder or told) or not path.is_file():
        there = ", ".join(sorted(file.name for file in Path(folder).glob("*.npy"))[:8]) if folder else ""
        msg = (
            f"flatfield.provided: channel {channel!r} of plate {plate} has no illumination; expected the file {path}, "
            f"got {there or 'no .npy file there'}: set flatfield.provided.folder and pattern"
        )
        raise ConfigError(msg)
    illum = _load(path)
    if told and checksum(illum) != told:
        msg = f"{path} is not the illumination its index speaks of; rerun rule ingest_plate (-R ingest_plate)"
        raise StaleError(msg)
    return {"illum": illum, "name": f"illumination {path} of channel {channel!r}"}


def _told(index: str | Path, channel: str) -> str:
    """Checksum of what the source named for a channel; empty for nothing."""
    planes = read_table(index)
    if "illum_checksum" not in planes:
        return ""
    return next(iter(planes.loc[planes["Metadata_Channel"] == channel, "illum_checksum"]), "")


def _kept(index: Path, plate: str, channel: str) -> Path:
    return index.with_name(f"{plate}_Illum{channel}.npy")


def _load(path: Path) -> npt.NDArray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        msg = f"flatfield.provided: {path} cannot be read as an array ({error}); expected NPY without pickles"
        raise ConfigError(msg) from error
