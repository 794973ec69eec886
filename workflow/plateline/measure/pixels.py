"""The pixels of the objects of one compartment, sorted by object: what every family of features works on.

Owns the list of pixels, built once per compartment, the values of all channels in its order, and their ranks within
each object. Refuses nothing: `plateline.measure.field` has checked its input.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]

# Below this many values, inserting beats counting bytes: measured on 1 to 2000 values.
_FEW = np.int64(48)


class Pixels(NamedTuple):
    """Pixels of n objects, object after object, rows from top to bottom, columns from left to right.

    Attributes
    ----------
    rows : (Y + 2, X + 2) int32
        Row of the table, counted from 1, of the object at each pixel, 0 for none; with a frame of one pixel of 0, so
        that a neighbour needs no check of the border.
    start : (n + 1,) int64
        Where the pixels of each object begin in `y` and `x`, and where the last ones end.
    y, x : (P,) int32
        Place of each pixel in the field.
    box : (n, 4) int32
        First y, first x, one past the last y and x of each object; 0 where an object has no pixel.
    """

    rows: npt.NDArray[np.int32]
    start: npt.NDArray[np.int64]
    y: npt.NDArray[np.int32]
    x: npt.NDArray[np.int32]
    box: npt.NDArray[np.int32]

    @property
    def n(self) -> int:
        """Number of objects, with those that have no pixel."""
        return len(self.box)

    @property
    def area(self) -> npt.NDArray[np.int64]:
        """Number of pixels of each object, (n,)."""
        return np.diff(self.start)


class Values(NamedTuple):
    """Intensities in the order of the pixels.

    Attributes
    ----------
    values : (C, P) float32
        Shares of full scale; 0 throughout an object that is not finite in that channel.
    ordered : (C, P) float32
        The same, rising within each object.
    rank : (C, P) int32
        Rank of each value among the different values of its object, from 0.
    known : (C, n) bool
        Whether all pixels of the object are finite in that channel, and there is one.
    """

    values: npt.NDArray[np.float32]
    ordered: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int32]
    known: npt.NDArray[np.bool_]


def list_pixels(labels: npt.NDArray[np.int32], numbers: npt.NDArray[np.int32]) -> Pixels:
    """Pixels of the objects whose numbers are asked for.

    Parameters
    ----------
    labels : (Y, X) int32
        Label image; 0 and numbers not asked for are background.
    numbers : (n,) int32
        Rising; an object without a pixel has none in the list.
    """
    rows = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), np.int32)
    area = _number_rows(np.ascontiguousarray(labels, np.int32), np.ascontiguousarray(numbers, np.int32), rows)
    start = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(area, out=start[1:])
    y, x, box = _sort_pixels(rows, start)
    return Pixels(rows, start, y, x, box)


def take_values(pixels: Pixels, image: npt.NDArray[np.float32]) -> Values:
    """Intensities of the listed pixels in all channels of an image (C, Y, X), sorted and ranked within each object."""
    # numpy asks for large pages of memory, numba does not: on large fields that is a third of the time.
    shape = (len(image), pixels.y.size)
    values, ordered, rank = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int32)
    known = _gather(pixels, np.ascontiguousarray(image, np.float32), values)
    _rank(pixels, values, ordered, rank)
    return Values(values, ordered, rank, known)


@njit(cache=True, error_model="numpy")
def _number_rows(labels, numbers, rows):
    area = np.zeros(numbers.size, np.int64)
    last, row = 0, 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            number = labels[y, x]
            if number != last:  # the neighbour to the left is mostly the same object
                last, row = number, _find(numbers, number)
            if row:
                rows[y + 1, x + 1] = row
                area[row - 1] += 1
    return area


@njit(cache=True, error_model="numpy")
def _find(numbers, number):
    """Place of a number among rising numbers, counted from 1; 0 if it is not there."""
    low, high = 0, numbers.size
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] < number:
            low = middle + 1
        else:
            high = middle
    return low + 1 if low < numbers.size and numbers[low] == number else 0


@njit(cache=True, error_model="numpy")
def _sort_pixels(rows, start):
    n, total = start.size - 1, start[-1]
    ys, xs, box, place = np.empty(total, np.int32), np.empty(total, np.int32), np.zeros((n, 4), np.int32), start.copy()
    for y in range(rows.shape[0] - 2):
        for x in range(rows.shape[1] - 2):
            row = rows[y + 1, x + 1] - 1
            if row < 0:
                continue
            at = place[row]
            if at == start[row]:
                box[row, 0], box[row, 1], box[row, 3] = y, x, x + 1
            box[row, 1], box[row, 2], box[row, 3] = min(box[row, 1], x), y + 1, max(box[row, 3], x + 1)
            ys[at], xs[at] = y, x
            place[row] += 1
    return ys, xs, box


@njit(cache=True, error_model="numpy")
def _gather(pixels, image, values):
    n, channels = pixels.start.size - 1, image.shape[0]
    known = np.zeros((channels, n), np.bool_)
    for channel in range(channels):
        for row in range(n):
            first, last = pixels.start[row], pixels.start[row + 1]
            finite = last > first
            for at in range(first, last):
                # Adding 0 turns -0 into 0: equal values must have equal bits.
                value = image[channel, pixels.y[at], pixels.x[at]] + np.float32(0)
                values[channel, at] = value
                finite = finite and np.isfinite(value)
            known[channel, row] = finite
            if not finite:
                values[channel, first:last] = 0
    return known


@njit(cache=True, error_model="numpy")
def _rank(pixels, values, ordered, rank):
    for channel in range(values.shape[0]):
        # The bits of a float rise with it once the sign bit of positive and all bits of negative numbers are flipped.
        bits = values[channel].view(np.uint32)
        for row in range(pixels.start.size - 1):
            first, last = pixels.start[row], pixels.start[row + 1]
            keys = np.empty(last - first, np.uint64)
            for at in range(first, last):
                rising = ~bits[at] if bits[at] >> np.uint32(31) else bits[at] | np.uint32(1 << 31)
                keys[at - first] = np.uint64(rising) << np.uint64(32) | np.uint64(at - first)
            keys = sort_keys(keys)
            found = np.int32(0)
            for place in range(last - first):
                at = first + np.int64(keys[place] & np.uint64(0xFFFFFFFF))
                ordered[channel, first + place] = values[channel, at]
                if place and ordered[channel, first + place] != ordered[channel, first + place - 1]:
                    found += np.int32(1)
                rank[channel, at] = found


@njit(cache=True, error_model="numpy")
def sort_keys(keys):
    """Keys, (n,) uint64, sorted by their upper 32 bits; the input is overwritten."""
    if keys.size < _FEW:
        for place in range(1, keys.size):
            key, at = keys[place], place
            while at > 0 and keys[at - 1] > key:
                keys[at] = keys[at - 1]
                at -= 1
            keys[at] = key
        return keys
    counts = np.zeros((4, 256), np.int64)
    for key in keys:
        for byte in range(4):
            counts[byte, (key >> np.uint64(32 + 8 * byte)) & np.uint64(255)] += 1
    spare = np.empty_like(keys)
    for byte in range(4):
        if counts[byte].max() < keys.size:  # a byte that all keys share sorts nothing
            _sort_byte(keys, spare, counts[byte], np.uint64(32 + 8 * byte))
            keys, spare = spare, keys
    return keys


@njit(cache=True, error_model="numpy")
def _sort_byte(keys, into, counts, shift):
    place = 0
    for value in range(256):
        counts[value], place = place, place + counts[value]
    for key in keys:
        value = (key >> shift) & np.uint64(255)
        into[counts[value]] = key
        counts[value] += 1
