"""The index of a plate: one row per image plane, what the source told beside it, and what all fields share."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from plateline.errors import SourceError
from plateline.identity import FIELD, split_well

# Sizes of a pixel that differ by less are the same, rounded differently.
_SAME_SIZE = 0.01
# What a source may tell of a channel.
TOLD = ("channel_name", "emission_nm", "excitation_nm", "exposure_ms")


class Geometry(NamedTuple):
    """What all fields of a plate share."""

    channels: list[str]
    height: int
    width: int
    dtype: str
    times: int
    pixel_size_um: float
    full_scale: float
    planes: int = 1


def index_table(
    planes: pd.DataFrame, left_out: pd.DataFrame, *, plate: str, channels: dict[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index of a plate: one row per image plane, with identity columns and the channels' own names.

    Parameters
    ----------
    planes, left_out : DataFrame
        What a layout found: planes, and files it did not take, with `path` and `reason`.
    plate : str
        Name for `Metadata_Plate`.
    channels : dict of str to str
        Channel as the source writes it, or as the microscope calls it (`channel_name`) -> name used from here on.
        Empty: names as found, letters and digits only.

    Returns
    -------
    index : DataFrame
        Planes whose channel has a name; `channel` is the place of the channel in the pixels.
    left_out : DataFrame
        With the planes of unnamed channels added.

    Raises
    ------
    SourceError
        If no channel has a name, two would have the same, or a name of the microscope is that of several.
    """
    found = planes["channel"].astype(str)
    names = _own_names(planes, channels, plate)
    unnamed = planes[names.isna()]
    reasons = "channel " + found[names.isna()] + " has no name in ingest.plate.channels"
    index = planes.assign(Metadata_Plate=plate, Metadata_Channel=names)[names.notna()].drop(columns="channel")
    places = [split_well(well) for well in index["Metadata_Well"]]
    index["Metadata_Row"] = [row for row, _ in places]
    index["Metadata_Column"] = [int(column) for _, column in places]
    # Sources count time from 0 or 1, or leave out what was not imaged; here it is always 0, 1, 2.
    index["Metadata_Timepoint"] = index["Metadata_Timepoint"].rank(method="dense").astype(int) - 1
    index["channel"] = index["Metadata_Channel"].map({name: n for n, name in enumerate(_ordered(index, channels))})
    leading = [*FIELD, "Metadata_Row", "Metadata_Column", "Metadata_Channel", "channel"]
    index = index[leading + [column for column in index if column not in leading]]
    more = pd.DataFrame({"path": unnamed["path"], "reason": reasons})
    return index.sort_values([*FIELD, "Metadata_Channel", "z"], ignore_index=True), pd.concat(
        [frame for frame in (left_out, more) if len(frame)] or [left_out], ignore_index=True
    )


def _own_names(planes: pd.DataFrame, channels: dict[str, str], plate: str) -> pd.Series:
    """Name of each plane's channel, NaN for one that the config does not name."""
    found = planes["channel"].astype(str)
    texts = ", ".join(sorted(set(found)))
    if channels:
        names = found.map(_by_microscope(planes, channels, plate) | channels)
        if len(found) and names.isna().all():
            named = ", ".join(channels)
            msg = (
                f"plate {plate}: none of its channels {texts} has a name in ingest.plate.channels, which names {named}"
            )
            raise SourceError(msg)
        return names
    names = found.str.replace(r"[^A-Za-z0-9]", "", regex=True)
    if (names == "").any() or names.nunique() < found.nunique():
        msg = f"plate {plate}: channels {texts} need more than letters and digits; name them in ingest.plate.channels"
        raise SourceError(msg)
    return names


def _by_microscope(planes: pd.DataFrame, channels: dict[str, str], plate: str) -> dict[str, str]:
    """Channel as the source writes it -> name, of those that the config calls as the microscope does."""
    if "channel_name" not in planes:
        return {}
    told = planes[planes["channel_name"] != ""].drop_duplicates(["channel", "channel_name"])
    told = told[told["channel_name"].isin(channels) & ~told["channel"].astype(str).isin(channels)]
    for name, rows in told.groupby("channel_name"):
        if len(rows) > 1:
            several = ", ".join(rows["channel"].astype(str))
            msg = f"plate {plate}: ingest.plate.channels names {name!r}, the name of channels {several}; use these"
            raise SourceError(msg)
    return {str(row.channel): channels[row.channel_name] for row in told.itertuples()}


def _ordered(index: pd.DataFrame, channels: dict[str, str]) -> list[str]:
    """Channels that have images: first as the source numbers them, then by name."""
    present = set(index["Metadata_Channel"])
    given = [channels[text] for text in sorted(channels) if channels[text] in present]
    return list(dict.fromkeys([*given, *sorted(present)]))


def set_pixel_size(index: pd.DataFrame, pixel_size_um: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The index with the pixel size of the config, and a warning where the source told another.

    Parameters
    ----------
    index : DataFrame
        Of a whole plate.
    pixel_size_um : float
        Of all planes; 0 leaves what the source told.

    Returns
    -------
    index : DataFrame
    warnings : DataFrame
        `reason` and `count` (planes); empty where the source told none, or the same to a hundredth.
    """
    told = index["pixel_size_um"].dropna()
    differs = told[(told - pixel_size_um).abs() > _SAME_SIZE * pixel_size_um] if pixel_size_um else told[:0]
    reasons = [
        f"the source says {size:.4g} µm a pixel, ingest.plate.pixel_size_um {pixel_size_um:.4g}; the latter counts"
        for size in differs.unique()[:1]
    ]
    warnings = pd.DataFrame({"reason": pd.Series(reasons, dtype=object), "count": len(differs)})
    return (index.assign(pixel_size_um=float(pixel_size_um)) if pixel_size_um else index), warnings


def told_of_channels(index: pd.DataFrame) -> list[dict[str, str | float]]:
    """What the source told of each channel, in the order of the pixels: of `TOLD` what it knew, numbers as medians."""
    told = []
    for _, planes in index.groupby("channel"):
        facts = {}
        for fact in [fact for fact in TOLD if fact in planes]:
            known = planes[fact].replace("", np.nan).dropna()
            if len(known):
                facts[fact] = str(known.mode()[0]) if fact == "channel_name" else float(known.median())
        told.append(facts)
    return told


def stage_positions(index: pd.DataFrame) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Well and site -> x, y and z of the stage in µm, medians over the planes; of fields where x or y is known."""
    axes = [f"position_{axis}_um" for axis in "xyz"]
    if not set(axes) <= set(index):
        return {}
    places = index.groupby(["Metadata_Well", "Metadata_Site"])[axes].median().dropna(how="all", subset=axes[:2])
    return {(str(well), int(site)): (float(x), float(y), float(z)) for (well, site), x, y, z in places.itertuples()}


def illuminations(index: pd.DataFrame) -> dict[str, list[str]]:
    """Channel -> paths inside the source of the illuminations that it names; channels without one are left out."""
    if "illum" not in index:
        return {}
    named = index[index["illum"] != ""].groupby("Metadata_Channel")["illum"].unique()
    return {str(channel): sorted(map(str, paths)) for channel, paths in named.items()}


def geometry(index: pd.DataFrame) -> Geometry:
    """What most readable planes of a plate agree on; a field that differs is excluded when it is read.

    Parameters
    ----------
    index : DataFrame
        Of a whole plate.

    Raises
    ------
    SourceError
        If no plane of the plate can be read.
    """
    readable = index[index["status"] == "ok"]
    if readable.empty:
        plate = index["Metadata_Plate"].iloc[0] if len(index) else "?"
        msg = f"plate {plate}: none of its {len(index)} image planes can be read; the first: {_first_reason(index)}"
        raise SourceError(msg)
    shapes = readable.groupby(["height", "width", "dtype"]).size()
    height, width, dtype = shapes.idxmax()
    known = readable["pixel_size_um"].dropna()
    pixel_size = float(known.median()) if len(known) else np.nan
    names = index.drop_duplicates("channel").sort_values("channel")["Metadata_Channel"]
    return Geometry(
        channels=list(names),
        height=int(height),
        width=int(width),
        dtype=str(dtype),
        times=int(index["Metadata_Timepoint"].max()) + 1,
        pixel_size_um=pixel_size,
        full_scale=float(readable["full_scale"].max()),
        planes=int(index.groupby([*FIELD, "channel"]).size().max()),
    )


def _first_reason(index: pd.DataFrame) -> str:
    return f"{index['path'].iloc[0]}: {index['reason'].iloc[0]}" if len(index) else "no plane at all"


def facts(shared: Geometry) -> dict[str, object]:
    """What later stages must know of a field's pixels, as columns of the field table."""
    return {
        "channels": "|".join(shared.channels),
        "height": shared.height,
        "width": shared.width,
        "dtype": shared.dtype,
        "full_scale": shared.full_scale,
        "pixel_size_um": shared.pixel_size_um,
    }


def acquired(planes: pd.DataFrame) -> str:
    """When the first plane of a field was taken, as the source writes it; empty where it does not tell."""
    told = planes["acquired"] if "acquired" in planes else pd.Series(dtype=object)
    return min((str(time) for time in told.dropna() if time), default="")


def no_fields() -> pd.DataFrame:
    """The field table of a part without wells."""
    text = pd.Series(dtype=object)
    number = pd.Series(dtype=np.int64)
    columns = {"Metadata_Plate": text, "Metadata_Well": text, "Metadata_Site": number, "Metadata_Timepoint": number}
    columns |= {name: text for name in ("Metadata_Key", "checksum", "status", "reason", "acquired", "channels")}
    columns |= {"height": number, "width": number, "dtype": text}
    return pd.DataFrame(columns | {name: pd.Series(dtype=float) for name in ("full_scale", "pixel_size_um")})
