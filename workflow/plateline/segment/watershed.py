"""Which seed each pixel belongs to, neighbours meeting in the dimmest pixels between them.

Owns the flooding from seeds behind the cells of `cells`.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

_LEVELS = 65_536


def watershed(
    seeds: npt.NDArray[np.int32], brightness: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int32]:
    """Seeds grown over a mask, the brightest pixels first.

    Parameters
    ----------
    seeds : (Y, X) int32
        Numbers from 1, 0 where there is no seed. They stay as they are.
    brightness : (Y, X) float32
        Finite; any unit. Rounded to 1/65,535 of its range within the mask.
    mask : (Y, X) bool
        What may be taken.

    Returns
    -------
    (Y, X) int32
        0 outside the mask, and where no seed reaches over the four neighbours of pixels.

    Notes
    -----
    Seeds spread at all times from the brightest pixels at their edges, and of equally bright ones from those that were
    reached first: each pixel falls to the seed from which the way to it leads through the least dim pixels, and a flat
    stretch between two seeds is shared halfway. Time grows with the number of pixels: they wait in one queue for each
    level, and a pixel that is brighter than the way to it waits at the level of that way.

    References
    ----------
    Meyer 1994, doi:10.1016/0165-1684(94)90060-4.
    """
    labels = np.pad(seeds, 1)  # a rim outside the mask, so that no step needs to look where the image ends
    free = np.pad(mask & (seeds == 0), 1)
    if free.any() and seeds.any():
        depth = np.pad(_depth(brightness, mask), 1)
        _spread(labels.ravel(), depth.ravel(), free.ravel(), labels.shape[1])
    return labels[1:-1, 1:-1].copy()


def _depth(brightness: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """How far below the brightest pixel of the mask each one lies, in steps of the queue."""
    inside = brightness[mask]
    top, range_ = float(inside.max()), float(np.ptp(inside))
    scale = (_LEVELS - 1) / range_ if range_ > 0 else 0.0
    return np.rint(np.clip((top - brightness) * scale, 0, _LEVELS - 1)).astype(np.uint16)


@njit(cache=True)
def _spread(labels, depth, free, width):
    """Fill `labels` over what is `free`, which it uses up."""
    queues = np.full(_LEVELS, -1, np.int32), np.full(_LEVELS, -1, np.int32), np.full(labels.size, -1, np.int32)
    first, after = queues[0], queues[2]
    for place in range(labels.size):
        # A pixel inside a seed has nobody to give its number to.
        if labels[place] > 0 and (free[place - width] or free[place - 1] or free[place + 1] or free[place + width]):
            _wait(queues, depth[place], place)
    for level in range(_LEVELS):
        place = first[level]
        while place >= 0:
            for step in (-width, -1, 1, width):
                other = place + step
                if free[other]:
                    free[other] = False
                    labels[other] = labels[place]
                    _wait(queues, max(level, depth[other]), other)
            place = after[place]


@njit(cache=True)
def _wait(queues, level, place):
    """Put a pixel at the end of the queue of a level."""
    first, last, after = queues
    if first[level] < 0:
        first[level] = place
    else:
        after[last[level]] = place
    last[level] = place
