"""Granular spectrum of objects: the light that structures of rising size hold (CellProfiler's MeasureGranularity).

The whole field is thinned out, its background removed by an opening, then eroded step by step; what reconstruction does
not bring back is the light of that step. A pixel that is not finite counts as dark here.

References
----------
Ravkin and Temov 1988; Vincent 1993, doi:10.1109/83.217222 (reconstruction).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from plateline.measure.names import Settings
from plateline.measure.pixels import Floats, Pixels


class Spectrum(NamedTuple):
    """What is `left` of the thinned-out channels after each step, (C, steps, y, x), and the `shape` of the field."""

    left: Floats
    shape: tuple[int, int]


def open_field(image: npt.NDArray[np.float32], settings: Settings) -> Spectrum | None:
    """Reconstructions of the field's channels (C, Y, X) after each step; None if too few pixels would be left."""
    shape = image.shape[1:]
    coarse = [int(size * settings.granularity_sampling) for size in shape]
    if min(coarse) < 2:
        return None
    left = np.empty((len(image), settings.granularity_steps, *coarse))
    for channel, plane in enumerate(image):
        plane = np.where(np.isfinite(plane), plane, 0).astype(np.float64)
        thin = _resample(plane, [np.arange(size) / settings.granularity_sampling for size in coarse])
        _reconstruct(*_rank(np.maximum(thin - _background(thin, settings), 0)), left[channel])
    return Spectrum(left, shape)


def measure_granularity(pixels: Pixels, means: Floats, spectrum: Spectrum | None, steps: int) -> Floats:
    """Features `Granularity` of each object, (C, steps, n), in percent of its mean intensity, (C, n).

    NaN where the field is too small to be thinned out.
    """
    if spectrum is None:
        return np.full((len(means), steps, pixels.n), np.nan)
    where = [
        np.arange(size) * ((coarse - 1) / (size - 1))
        for size, coarse in zip(spectrum.shape, spectrum.left.shape[2:], strict=True)
    ]
    sums = _object_sums(pixels, where[0], where[1], spectrum.left)
    left = np.concatenate([means[:, None], sums / np.maximum(pixels.area, 1)], axis=1)
    return -np.diff(left, axis=1) * 100 / np.maximum(means, np.finfo(np.float64).eps)[:, None]


def _rank(field: Floats) -> tuple[npt.NDArray[np.int32], Floats]:
    """Rank of each pixel among the different values of a field, and these values, rising."""
    # Erosions only compare. Ranks take half the memory, which a core then finds in its cache.
    levels, ranks = np.unique(field, return_inverse=True)
    return ranks.reshape(field.shape).astype(np.int32), levels


def _background(thin: Floats, settings: Settings) -> Floats:
    """The field opened with a disk, on a still coarser grid."""
    sampling = settings.granularity_background_sampling
    coarse = [size * sampling for size in thin.shape]
    grid = [np.arange(int(np.ceil(size))) / sampling for size in coarse]
    field = thin if sampling == 1 else _resample(thin, grid)
    field = -_erode(-_erode(field, settings.granularity_radius_px), settings.granularity_radius_px)
    if sampling == 1:
        return field
    back = [np.arange(size) * ((small - 1) / (size - 1)) for size, small in zip(thin.shape, coarse, strict=True)]
    return _resample(field, back)


def _resample(field: Floats, places: list[Floats]) -> Floats:
    """The field at crossings of rows and columns, bilinear; 0 outside it, also where rounding puts a place there."""
    return _resample_rows(_resample_rows(field, places[0]).T, places[1]).T


def _resample_rows(field: Floats, places: Floats) -> Floats:
    last = len(field) - 1
    inside = (places >= 0) & (places <= last)
    low = np.clip(np.floor(places), 0, last).astype(np.int64)
    share = places - low
    below, above = (weight[:, None] for weight in ((1 - share) * inside, share * inside))
    return field[low] * below + field[np.minimum(low + 1, last)] * above


def _erode(field: Floats, radius: int) -> Floats:
    """Smallest value in the disk around each pixel, as far as it lies in the field."""
    height, width = field.shape
    framed = np.pad(field, radius, constant_values=np.inf)
    # The disk's lines nest: the smallest along a line of one more pixel on either side follows from the one before.
    line, eroded = framed[:, radius : radius + width].copy(), np.full(field.shape, np.inf)
    for reach in range(radius + 1):
        if reach:
            for shift in (radius - reach, radius + reach):
                line = np.minimum(line, framed[:, shift : shift + width])
        for dy in range(-radius, radius + 1):
            if int(np.sqrt(radius**2 - dy**2)) == reach:
                eroded = np.minimum(eroded, line[radius + dy : radius + dy + height])
    return eroded


@njit(cache=True, error_model="numpy")
def _reconstruct(field, levels, left):
    """Write the reconstruction of a field of ranks after each further erosion by a cross of three pixels, as values.

    The one before is the mask of the next: it lies above every later one, and is smaller than the field.
    """
    eroded, spare = field.copy(), np.empty_like(field)
    # In a frame that nothing rises in, so that no neighbour needs a check.
    mask = np.full((field.shape[0] + 2, field.shape[1] + 2), -1, np.int32)
    mask[1:-1, 1:-1] = field
    raised, queue, queued = np.full_like(mask, -1), np.empty(mask.size + 1, np.int32), np.zeros(mask.size, np.bool_)
    for step in range(left.shape[0]):
        _erode_cross(eroded, spare)
        eroded, spare = spare, eroded
        raised[1:-1, 1:-1] = eroded
        waiting = _sweep(raised, mask, queue, queued)
        _spread(raised.reshape(mask.size), mask.reshape(mask.size), mask.shape[1], queue, queued, waiting)
        for y in range(field.shape[0]):
            for x in range(field.shape[1]):
                left[step, y, x] = levels[raised[y + 1, x + 1]]
        mask[:] = raised


@njit(cache=True, error_model="numpy")
def _erode_cross(field, into):
    height, width = field.shape
    for y in range(height):
        for x in range(width):
            least = field[y, x]
            if y > 0:
                least = min(least, field[y - 1, x])
            if x > 0:
                least = min(least, field[y, x - 1])
            if y + 1 < height:
                least = min(least, field[y + 1, x])
            if x + 1 < width:
                least = min(least, field[y, x + 1])
            into[y, x] = least


@njit(cache=True, error_model="numpy")
def _sweep(field, mask, queue, queued):
    """Raise the field below the mask, down and up again; queue what may still raise a neighbour (Vincent 1993)."""
    height, width = field.shape
    waiting = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            field[y, x] = min(max(field[y, x], field[y - 1, x], field[y, x - 1]), mask[y, x])
    for y in range(height - 2, 0, -1):
        for x in range(width - 2, 0, -1):
            here = min(max(field[y, x], field[y + 1, x], field[y, x + 1]), mask[y, x])
            field[y, x] = here
            right, below = field[y, x + 1], field[y + 1, x]
            if (right < here and right < mask[y, x + 1]) or (below < here and below < mask[y + 1, x]):
                queue[waiting], queued[y * width + x] = y * width + x, True
                waiting += 1
    return waiting


@njit(cache=True, error_model="numpy")
def _spread(field, mask, width, queue, queued, end):
    """Raise the neighbours of the pixels in the queue, a ring that holds each pixel once, until none rises."""
    first = 0
    while first != end:
        at = queue[first]
        first, queued[at] = (first + 1) % queue.size, False
        for step in (-1, 1, -width, width):
            near = at + step
            if field[near] < field[at] and field[near] < mask[near]:
                field[near] = min(field[at], mask[near])
                if not queued[near]:
                    queue[end], queued[near] = near, True
                    end = (end + 1) % queue.size


@njit(cache=True, error_model="numpy")
def _object_sums(pixels, where_y, where_x, left):
    """Sums over each object of the coarse images, brought back to the field's grid, (C, steps, n)."""
    channels, steps, height, width = left.shape
    n = pixels.box.shape[0]
    sums = np.zeros((channels, steps, n))
    for row in range(n):
        y0, x0, y1, x1 = pixels.box[row, 0], pixels.box[row, 1], pixels.box[row, 2], pixels.box[row, 3]
        if pixels.start[row] == pixels.start[row + 1]:
            continue
        top, side = int(where_y[y0]), int(where_x[x0])
        weights = np.zeros((int(where_y[y1 - 1]) + 2 - top, int(where_x[x1 - 1]) + 2 - side))
        for at in range(pixels.start[row], pixels.start[row + 1]):
            y, x = where_y[pixels.y[at]], where_x[pixels.x[at]]
            if y <= height - 1 and x <= width - 1:  # rounding may put the last line outside, where all is 0
                down, right = y - int(y), x - int(x)
                line, column = int(y) - top, int(x) - side
                weights[line, column] += (1 - down) * (1 - right)
                weights[line, column + 1] += (1 - down) * right
                weights[line + 1, column] += down * (1 - right)
                weights[line + 1, column + 1] += down * right
        _add_up(left, weights, top, side, sums[:, :, row])
    return sums


@njit(cache=True, error_model="numpy")
def _add_up(left, weights, top, side, sums):
    channels, steps, height, width = left.shape
    for channel in range(channels):
        for step in range(steps):
            total = 0.0
            for y in range(min(weights.shape[0], height - top)):
                for x in range(min(weights.shape[1], width - side)):
                    total += weights[y, x] * left[channel, step, top + y, side + x]
            sums[channel, step] = total
