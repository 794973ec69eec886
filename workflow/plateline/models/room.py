"""How much of a field goes through a network at once: as many tiles as the memory of the device has room for.

Owns the device of this process and the number of tiles in a batch. Who is told that memory ran out, and logs it, is
`compute`; what a batch is made of, `predict`.
"""

import torch

# Tiles of at most 2,176 x 2,176 pixels, 1 GB of activations each: a share of the device is enough for this many. A CPU
# is no faster with more than one.
_TILES = {"cuda": 2, "cpu": 1}
# Tiles in a batch once memory ran out, by kind of device; and whether the CPU stands in for the device.
_SMALLER: dict[str, int] = {}
_STANDS_IN: list[bool] = []


def device() -> torch.device:
    """The device of this process: the first one it sees, or the CPU where it sees none or that one is full."""
    return torch.device("cuda" if torch.cuda.is_available() and not _STANDS_IN else "cpu")


def tiles() -> int:
    """How many tiles go through a network at once."""
    kind = device().type
    return _SMALLER.get(kind, _TILES[kind])


def make_smaller() -> str:
    """Ask for less memory: half as many tiles at once, at last the CPU. Says what comes; nothing if nothing is left."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    kind, now = device().type, tiles()
    if now > 1:
        _SMALLER[kind] = now // 2
        return f"batches of {now // 2} in place of {now}"
    if _STANDS_IN:
        return ""
    _STANDS_IN.append(True)
    return "the CPU"


def come_back() -> None:
    """Leave the CPU where it stood in for the device; batches stay as small as they became."""
    _STANDS_IN.clear()
