"""Nuclei by a learned vector field: every pixel says where the middle of its nucleus lies, and walks there.

Owns the maps of the method `flow`: what they are made from, what their error costs, and how labels come back.
"""

from functools import partial

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plateline.models.depth import numbered, object_max, object_sums
from plateline.models.loss import Foreground, foreground_loss
from plateline.models.predict import How, nuclei
from plateline.models.target import Target, as_they_are

MAPS, STEP = 3, 1
# A middle nearer than this pulls less the nearer it is, so that pixels come to rest there, pixels.
_REST_PX = 3.0
# Pixels that come to rest within a pixel of each other are one nucleus; a nucleus has at least this many of them.
_FEWEST = 5


def encode(labels: Tensor) -> Tensor:
    """Maps (N, 3, Y, X) of labels (N, Y, X): nucleus (0, 1), and the step in y and x towards the middle, at most 1.

    The middle is the nucleus' own pixel that is nearest to the mean of its pixels.
    """
    number, count = numbered(labels)
    y, x = (_places(labels, axis) for axis in (1, 2))
    area = object_sums(number, count, torch.ones_like(y)).clamp(min=1)
    mean_y, mean_x = (object_sums(number, count, place) / area for place in (y, x))
    off = (y - mean_y[number]) ** 2 + (x - mean_x[number]) ** 2
    nearest = object_max(number, count, 1 / (1 + off))
    at_middle = ((1 / (1 + off) == nearest[number]) & (labels > 0)).nonzero(as_tuple=True)
    flat = torch.arange(labels.numel(), device=labels.device).view_as(labels)
    middle = torch.zeros(count, dtype=torch.long, device=labels.device)
    middle[number[at_middle]] = flat[at_middle]
    dy, dx = (place.ravel()[middle][number] - place for place in (y, x))
    length = torch.hypot(dy, dx).clamp(min=_REST_PX)
    inside = (labels > 0).float()
    return torch.stack([inside, dy / length * inside, dx / length * inside], 1)


def _places(labels: Tensor, axis: int) -> Tensor:
    """Coordinate (N, Y, X) of every pixel along an axis, float32."""
    shape = [1, 1, 1]
    shape[axis] = labels.shape[axis]
    return torch.arange(labels.shape[axis], device=labels.device).float().view(shape).expand(labels.shape)


def loss(raw: Tensor, target: Tensor, weight: Tensor, foreground: Foreground) -> Tensor:
    """Cost of what the network says: of the nucleus map, and the squared error of the steps in nuclei."""
    error = (raw[:, 1:] - target[:, 1:]).square().sum(1) * target[:, 0]
    return foreground_loss(raw[:, 0], target[:, 0], weight, foreground) + 2 * (error * weight).mean()


def activate(raw: Tensor) -> Tensor:
    """Maps of the network's output: probability of a nucleus 0 to 1, and steps in y and x."""
    return torch.cat([raw[:, :1].sigmoid(), raw[:, 1:]], 1)


def decode(maps: npt.NDArray[np.float32], *, threshold: float, steps: int) -> npt.NDArray[np.int32]:
    """Labels of the maps of one field.

    Parameters
    ----------
    maps : (3, Y, X) float32
        As `activate` gives them.
    threshold : float
        Least probability of a pixel of a nucleus, 0 to 1.
    steps : int
        How many steps of a pixel are walked, at least 1; the radius of the largest nucleus.

    Returns
    -------
    (Y, X) int32
        Numbered from 1 in raster order. A pixel that comes to rest where fewer than five do stays background.

    Notes
    -----
    Euler's method: each pixel of the mask moves by the bilinear value of the field at its place, at most one pixel a
    step, and stops early where the field is shorter than a twentieth of a pixel.

    References
    ----------
    Stringer et al. 2021, doi:10.1038/s41592-020-01018-x, for vector fields that are followed. Neven et al. 2019,
    doi:10.1109/CVPR.2019.00904, for fields that point at the middle.
    """
    return _cluster(*_walk(np.ascontiguousarray(maps[1:]), maps[0] > threshold, steps))


@numba.njit(cache=True)
def _walk(field, mask, steps):
    """Pixel (P,) at which each pixel of the mask (P,) comes to rest, and the mask's places."""
    high, wide = mask.shape
    places = np.flatnonzero(mask)
    ends = np.empty(places.size, np.int64)
    for pixel in range(places.size):
        y, x = np.float32(places[pixel] // wide), np.float32(places[pixel] % wide)
        for _ in range(steps):
            b, a = min(int(y), high - 2), min(int(x), wide - 2)
            v, u = y - b, x - a
            dy = (1 - v) * ((1 - u) * field[0, b, a] + u * field[0, b, a + 1])
            dy += v * ((1 - u) * field[0, b + 1, a] + u * field[0, b + 1, a + 1])
            dx = (1 - v) * ((1 - u) * field[1, b, a] + u * field[1, b, a + 1])
            dx += v * ((1 - u) * field[1, b + 1, a] + u * field[1, b + 1, a + 1])
            size = np.sqrt(dy * dy + dx * dx)
            if size < 0.05:
                break
            size = max(size, np.float32(1))
            y = min(max(y + dy / size, np.float32(0)), np.float32(high - 1))
            x = min(max(x + dx / size, np.float32(0)), np.float32(wide - 1))
        ends[pixel] = np.int64(np.rint(y)) * wide + np.int64(np.rint(x))
    return ends, places, mask.shape


@numba.njit(cache=True)
def _cluster(ends, places, shape):
    """Labels of pixels by where they came to rest: resting places that touch are one, if enough pixels came."""
    arrived = np.zeros(shape, np.int32)
    for end in ends:
        arrived[end // shape[1], end % shape[1]] += 1
    pools, kept = _touching(arrived)
    number, count = np.zeros(kept.size, np.int32), 0
    labels = np.zeros(shape, np.int32)
    for pixel in range(places.size):  # places are in raster order
        pool = pools[ends[pixel] // shape[1], ends[pixel] % shape[1]]
        if kept[pool] >= _FEWEST:
            if number[pool] == 0:
                count += 1
                number[pool] = count
            labels[places[pixel] // shape[1], places[pixel] % shape[1]] = number[pool]
    return labels


@numba.njit(cache=True)
def _touching(arrived):
    """Resting places that touch, corners included, as one pool each, and how many pixels came to each."""
    high, wide = arrived.shape
    pools = np.zeros(arrived.shape, np.int32)
    kept = np.zeros(arrived.size + 1, np.int32)
    stack = np.empty(arrived.size, np.int64)
    count = 0
    for start in range(arrived.size):
        if arrived[start // wide, start % wide] == 0 or pools[start // wide, start % wide]:
            continue
        count += 1
        pools[start // wide, start % wide] = count
        stack[0], waiting = start, 1
        while waiting:
            waiting -= 1
            y, x = stack[waiting] // wide, stack[waiting] % wide
            kept[count] += arrived[y, x]
            for b in range(max(y - 1, 0), min(y + 2, high)):
                for a in range(max(x - 1, 0), min(x + 2, wide)):
                    if arrived[b, a] and pools[b, a] == 0:
                        pools[b, a] = count
                        stack[waiting] = b * wide + a
                        waiting += 1
    return pools, kept[: count + 1]


def mirror(maps: Tensor, axis: int) -> Tensor:
    """Maps (3, Y, X) whose steps along an axis are turned round."""
    signs = torch.ones(3, 1, 1, device=maps.device)
    signs[axis] = -1
    return maps * signs


TARGET = Target(
    maps=MAPS,
    outputs=MAPS,
    step=STEP,
    encode=encode,
    loss=loss,
    activate=activate,
    decode=decode,
    enlarge=as_they_are,
    mirror=mirror,
    options={"threshold": 0.5, "steps": 60},
    least=0.85,
)


def flow(
    image: npt.NDArray[np.float32],
    *,
    model: dict,
    diameter_px: float,
    mirrors: int,
    min_share: float,
    threshold: float,
    steps: int,
) -> dict[str, npt.NDArray]:
    """Nuclei by a learned vector field.

    Parameters
    ----------
    image : (C, Y, X) float32
        ``image[0]`` stains nuclei; any unit.
    model : dict
        Weights and card, as `store.read_model` gives them.
    diameter_px : float
        Usual diameter of a nucleus, pixels; 0 finds it in each field.
    mirrors : int
        Mirrored copies whose maps are averaged with the image's own: 0, 1 or 3; each costs the time of one more.
    min_share : float
        Objects smaller than this share of a usual nucleus' area are dropped.
    threshold, steps
        As for `decode`.

    Returns
    -------
    dict
        ``nuclei`` (Y, X) int32, from 1 in raster order; ``confidence`` (Y, X) float32, the probability of a nucleus.

    Raises
    ------
    ModelError
        If the model is of another method.
    """
    how = How(diameter_px, mirrors, min_share)
    return nuclei(image, model, ("flow", TARGET), partial(decode, threshold=threshold, steps=steps), how)
