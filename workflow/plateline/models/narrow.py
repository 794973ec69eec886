"""A smaller network that begins as the strongest part of a larger one.

Owns which channels of a trained network are its strongest, so that a training can start from wider weights.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plateline.errors import ModelError
from plateline.models.unet import DOWN, UP, WIDTHS, shape_of

Arrays = dict[str, npt.NDArray[np.float32]]


def narrowed(
    arrays: Arrays, *, widths: Sequence[int] = WIDTHS, down: Sequence[int] = DOWN, up: Sequence[int] = UP
) -> Arrays:
    """Weights of a network of a given shape: the strongest channels and the first blocks of a network at least as wide.

    Parameters
    ----------
    arrays : dict of str to float32 arrays
        Weights by name, as `unet.to_arrays` gives them.
    widths, down, up : sequence of int
        The shape wanted, as `UNet` takes it.

    Returns
    -------
    dict of str to float32 arrays
        What was given, where the shape is that already.

    Raises
    ------
    ModelError
        If the network is anywhere narrower, or has fewer blocks, than is wanted.

    Notes
    -----
    How strong a channel is: the squared weights that read it times the squared scales of the normalisations that write
    it. The maps are not those of the larger network before some more training.

    References
    ----------
    Li et al. 2017, arXiv:1608.08710 (channels by their weights); Liu et al. 2017, doi:10.1109/ICCV.2017.298 (by the
    scale of their normalisation).
    """
    wanted = {"widths": list(widths), "down": list(down), "up": list(up)}
    own = shape_of(arrays)
    if any(len(own[part]) != len(most) or np.less(own[part], most).any() for part, most in wanted.items()):
        msg = (
            f"a training cannot begin from this model: its network has {own}; expected at least {wanted}; "
            "leave segment.fit.begin empty, or give a model that is at least as wide"
        )
        raise ModelError(msg)
    names = [name for name in arrays if _block(name) < _blocks(name, wanted)]
    chosen = {group: _strongest(arrays, group, widths) for group in _groups(names)}
    return {name: _part(arrays[name], *(chosen.get(end) for end in _ends(name))) for name in names}


def _ends(name: str) -> tuple[str, str]:
    """Groups of channels that a weight writes and reads: a level, the inside of a block, or nothing that is chosen."""
    part, first, *rest = name.split(".")
    if part == "stem":
        return "0", ""
    if part == "head":
        return "", "0"
    level, below = first, str(int(first) + 1)
    if part in ("shrink", "widen"):
        return (below, level) if part == "shrink" else (level, below)
    inside = f"{part}.{level}.{rest[0]}"
    return (inside, level) if rest[1] == "first" else (level, inside)


def _groups(names: Sequence[str]) -> set[str]:
    return {end for name in names for end in _ends(name)} - {""}


def _block(name: str) -> int:
    """Number of a block in its level, of a weight of one."""
    return int(name.split(".")[2]) if name.startswith(("down.", "up.")) else -1


def _blocks(name: str, shape: dict[str, list[int]]) -> int:
    """Number of blocks that a shape has where a weight belongs."""
    part, level, *_ = name.split(".")
    return shape[part][int(level)] if part in ("down", "up") else 0


def _strongest(arrays: Arrays, group: str, widths: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which channels of a group are its strongest."""
    level = int(group.split(".")[1]) if "." in group else int(group)
    scales = [name for name in arrays if arrays[name].ndim == 1 and name.endswith(".weight")]
    written = np.sum([np.square(arrays[name]) for name in scales if _ends(name)[0] == group], axis=0)
    readers = [arrays[name] for name in arrays if arrays[name].ndim == 4 and _ends(name)[1] == group]
    # The head reads the finest level twice.
    read = np.sum([np.square(each).sum((0, 2, 3)).reshape(-1, written.size).sum(0) for each in readers], axis=0)
    strongest = np.zeros(written.size, np.bool_)
    strongest[np.argsort(-read * written, kind="stable")[: widths[level]]] = True
    return strongest


def _part(array: npt.NDArray, written: npt.NDArray | None, read: npt.NDArray | None) -> npt.NDArray:
    """Channels of a weight: those it writes, and of a convolution those it reads."""
    if written is not None:
        array = array[written]
    if read is not None and array.ndim == 4:
        array = array[:, np.tile(read, array.shape[1] // read.size)]
    return np.ascontiguousarray(array)
