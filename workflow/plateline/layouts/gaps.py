"""Planes that should be there: each becomes a row of the index that says so, and its field is excluded by name.

Without them a stack that lacks a z would be projected as if it were whole.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from plateline.layouts.planes import UNREADABLE

Field = tuple[str, int, int]
# z of a projection, or of the only plane.
ALONE = {0}


def missing_planes(rows: list[dict[str, Any]], planned: Iterable[Field], told_by: str) -> list[dict[str, Any]]:
    """Rows, `unreadable`, of the planes that have no record or file.

    Parameters
    ----------
    rows : list of dict
        Planes that have one, as `plateline.layouts.planes.tabulate` takes them.
    planned : iterable of (well, site, time point)
        Fields that the microscope was told to image. Fields of `rows` need not be among them.
    told_by : str
        Who planned them, for the reason.

    Returns
    -------
    list of dict
        One per missing plane. Every field should have every channel of the plate, and each the z planes that at least
        half of its stacks have. A lone plane 0 is a projection, and complete.
    """
    seen: dict[tuple[Field, str], set[int]] = {}
    for row in rows:
        seen.setdefault((_field(row), row["channel"]), set()).add(row["z"])
    usual, present = _usual_z(seen), {field for field, _ in seen}
    missing = []
    for field in sorted(present | set(planned)):
        reason = "a plane of its stack is missing" if field in present else f"{told_by} plans it, no image is there"
        for channel, steps in sorted(usual.items()):
            own = seen.get((field, channel), set())
            absent = set() if own == ALONE else steps - own if own else steps or ALONE
            missing += [
                _missing(field, channel, z, reason if own or field not in present else "") for z in sorted(absent)
            ]
    return missing


def _field(row: dict[str, Any]) -> Field:
    return row["Metadata_Well"], row["Metadata_Site"], row["Metadata_Timepoint"]


def _usual_z(seen: dict[tuple[Field, str], set[int]]) -> dict[str, set[int]]:
    """Channel -> the z planes that at least half of its stacks have; none where none is so common."""
    stacks = Counter(channel for (_, channel), steps in seen.items() if steps != ALONE)
    counts = Counter((channel, z) for (_, channel), steps in seen.items() if steps != ALONE for z in steps)
    usual: dict[str, set[int]] = {channel: set() for _, channel in seen}
    for (channel, z), n in counts.items():
        if 2 * n >= stacks[channel]:
            usual[channel].add(z)
    return usual


def _missing(field: Field, channel: str, z: int, reason: str) -> dict[str, Any]:
    well, site, time = field
    plane = {"Metadata_Well": well, "Metadata_Site": site, "Metadata_Timepoint": time, "z": z, "channel": channel}
    where = f"no image of well {well}, site {site}, time point {time}, z {z}, channel {channel}"
    return {**plane, "path": "", **UNREADABLE, "reason": f"{where}: {reason}" if reason else where}
