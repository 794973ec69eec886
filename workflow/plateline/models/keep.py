"""Which objects of a decoder are kept: those that are large enough and likely enough to be nuclei."""

import numba
import numpy as np
import numpy.typing as npt

# A nucleus that the edge of the image cuts may be smaller than others, by this factor.
_CUT = 0.3


def kept(
    labels: npt.NDArray[np.int32], confidence: npt.NDArray[np.float32], min_area_px: float, least: float
) -> npt.NDArray[np.int32]:
    """Labels (Y, X) from 1 in raster order: those of enough pixels, on whose mean a nucleus is likely enough.

    Parameters
    ----------
    labels : (Y, X) int32
        0 is background; numbers may have gaps.
    confidence : (Y, X) float32
        Probability of a nucleus.
    min_area_px, least : float
        Smallest area of a whole object, pixels, three tenths of it for one that touches the edge; and smallest mean
        probability of an object.
    """
    area, total = _measured(labels, confidence, int(labels.max(initial=0)) + 1)
    enough = np.full(area.size, min_area_px)
    enough[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = _CUT * min_area_px
    good = (area > 0) & (area >= enough) & (total >= least * area)
    good[0] = False
    return _renumbered(labels, good)


@numba.njit(cache=True)
def _measured(labels, confidence, count):
    """Pixels and summed confidence of each number."""
    area, total = np.zeros(count, np.int64), np.zeros(count, np.float64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            number = labels[y, x]
            if number:
                area[number] += 1
                total[number] += confidence[y, x]
    return area, total


@numba.njit(cache=True)
def _renumbered(labels, good):
    """The good numbers from 1 in raster order, 0 for the others."""
    number, count = np.zeros(good.size, np.int32), 0
    out = np.zeros(labels.shape, np.int32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if good[label]:
                if number[label] == 0:
                    count += 1
                    number[label] = count
                out[y, x] = number[label]
    return out
