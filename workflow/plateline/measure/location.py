"""Where objects and their intensities lie in the field, in pixels counted from 0."""

import numpy as np

from plateline.measure.pixels import Floats, Pixels


def measure_location(pixels: Pixels, places: Floats) -> Floats:
    """Features `Location` of each object, (F, n), from x and y of its centre of mass and its maximum, (C, 4, n)."""
    row, area = np.repeat(np.arange(pixels.n), pixels.area), np.where(pixels.area > 0, pixels.area, np.nan)
    centres = [np.bincount(row, place, pixels.n) / area for place in (pixels.x, pixels.y)]
    return np.concatenate([centres, places.reshape(4 * len(places), pixels.n)])
