"""Which object lies in which, and how many: parents and children of the compartments."""

import numpy as np
import numpy.typing as npt
from numba import njit

from plateline.measure.pixels import Pixels

# Children, and the parents they are looked up in.
LINKS = (("cells", "nuclei"), ("cytoplasm", "cells"))


def link_parents(children: Pixels, parents: Pixels) -> npt.NDArray[np.int64]:
    """Row of the parent of each child, (n,), counted from 1: the object that shares most pixels with it, 0 for none.

    Of several that share as many, the first.
    """
    return _overlap_most(children, parents.rows)


@njit(cache=True, error_model="numpy")
def _overlap_most(children, rows):
    n = children.box.shape[0]
    shared, found = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    for child in range(n):
        first, last = children.start[child], children.start[child + 1]
        for at in range(first, last):
            shared[rows[children.y[at] + 1, children.x[at] + 1]] += 1
        shared[0], best = 0, 0
        for at in range(first, last):
            parent = rows[children.y[at] + 1, children.x[at] + 1]
            if shared[parent] > shared[best] or (shared[parent] == shared[best] and parent < best):
                best = parent
        found[child] = best
        for at in range(first, last):
            shared[rows[children.y[at] + 1, children.x[at] + 1]] = 0
    return found
