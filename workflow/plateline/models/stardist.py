"""Nuclei as star-convex polygons: a chance of a middle, and the way to the rim in every direction.

Owns the maps of the method `stardist`: what they are made from, what their error costs, and how labels come back.
"""

import math
from functools import partial

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plateline.models.depth import depth, numbered, object_max
from plateline.models.loss import Foreground, foreground_loss
from plateline.models.predict import How, nuclei
from plateline.models.target import Target

RAYS = 32
MAPS, STEP = 1 + RAYS, 2
# No ray is longer, pixels: more than the radius of any nucleus at the scale of the network.
_LONGEST = 48


def directions() -> npt.NDArray[np.float32]:
    """Unit steps (RAYS, 2) in y and x, all the way round."""
    angle = np.arange(RAYS) * (2 * math.pi / RAYS)
    return np.stack([np.sin(angle), np.cos(angle)], 1).astype(np.float32)


def encode(labels: Tensor) -> Tensor:
    """Maps (N, 33, Y / 2, X / 2) of labels (N, Y, X): depth as a share of the nucleus' largest, and lengths of rays.

    A ray ends, in pixels of the labels, before the first pixel that is not the nucleus'; 0 outside nuclei.
    """
    number, count = numbered(labels)
    deep = depth(labels)
    middle = (deep / object_max(number, count, deep).clamp(min=1)[number])[:, ::STEP, ::STEP]
    return torch.cat([middle[:, None], _rays(labels)], 1)


def _rays(labels: Tensor) -> Tensor:
    """Lengths (N, 32, Y / 2, X / 2) of the rays in all directions."""
    count, high, wide = labels.shape
    own = labels[:, None, ::STEP, ::STEP].int()
    steps = torch.from_numpy(directions()).to(labels.device)[:, :, None, None]  # (R, 2, 1, 1)
    y = torch.arange(0, high, STEP, device=labels.device)[:, None]
    x = torch.arange(0, wide, STEP, device=labels.device)
    flat, crop = labels.int().ravel(), torch.arange(count, device=labels.device)[:, None, None, None] * (high * wide)
    length = torch.zeros(count, RAYS, *own.shape[2:], device=labels.device)
    going = (own > 0).expand(length.shape)
    for reach in range(1, _LONGEST + 1):
        b, a = (y + reach * steps[:, 0]).round().long(), (x + reach * steps[:, 1]).round().long()  # (R, Y / 2, X / 2)
        within = (b >= 0) & (b < high) & (a >= 0) & (a < wide)
        going = going & within & (flat[crop + b.clamp(0, high - 1) * wide + a.clamp(0, wide - 1)] == own)
        length += going
        if reach % 8 == 0 and not bool(going.any()):
            break
    return length


def loss(raw: Tensor, target: Tensor, weight: Tensor, foreground: Foreground) -> Tensor:
    """Cost of what the network says: of the middles, and the error of the rays in shares of their length."""
    weight, middle = weight[:, ::STEP, ::STEP], target[:, 0]
    error = (raw[:, 1:] - _squeezed(target[:, 1:])).abs().mean(1) * middle
    return foreground_loss(raw[:, 0], middle, weight, foreground) + 2 * (error * weight).mean()


def _squeezed(length: Tensor) -> Tensor:
    """Lengths on the scale of the network, on which a pixel counts less the longer a ray is."""
    return (length + 1).log()


def activate(raw: Tensor) -> Tensor:
    """Maps of the network's output: chance of a middle 0 to 1, and lengths of rays, pixels of the input."""
    return torch.cat([raw[:, :1].sigmoid(), raw[:, 1:].clamp(0, 5).exp() - 1], 1)


def enlarge(maps: npt.NDArray[np.float32], factor: float) -> npt.NDArray[np.float32]:
    """Maps whose rays are counted in pixels that are smaller by a factor."""
    return np.concatenate([maps[:1], maps[1:] * np.float32(factor)])


def decode(maps: npt.NDArray[np.float32], *, threshold: float, overlap: float) -> npt.NDArray[np.int32]:
    """Labels (2 Y, 2 X) of the maps of one field.

    Parameters
    ----------
    maps : (33, Y, X) float32
        As `activate` gives them, one value for 2 x 2 pixels.
    threshold : float
        Least chance of a middle, 0 to 1.
    overlap : float
        A polygon is dropped when more than this share of it is covered by likelier ones, 0 to 1.

    Returns
    -------
    (2 Y, 2 X) int32
        Numbered from 1 in the order of falling chance; equal ones in raster order. A pixel of two polygons goes to the
        likelier.

    Notes
    -----
    Polygons are suppressed greedily as drawn: a middle that lies in a drawn polygon is passed over at once.

    References
    ----------
    Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30.
    """
    y, x = np.nonzero(maps[0] > threshold)
    order = np.argsort(-maps[0, y, x], kind="stable")
    centres = np.stack([y[order], x[order]], 1) * STEP
    lengths = np.ascontiguousarray(maps[1:, y[order], x[order]].T)
    shape = (maps.shape[1] * STEP, maps.shape[2] * STEP)
    return _suppress(centres, lengths + np.float32(0.5), directions(), shape, overlap)


@numba.njit(cache=True)
def _suppress(centres, lengths, steps, shape, overlap):
    """Labels of the polygons that stay, likeliest first."""
    labels = np.zeros(shape, np.int32)
    corners = np.empty(steps.shape, np.float32)
    count = 0
    for middle in range(len(centres)):
        y, x = centres[middle]
        if labels[y, x]:
            continue
        for ray in range(len(steps)):
            corners[ray, 0] = y + lengths[middle, ray] * steps[ray, 0]
            corners[ray, 1] = x + lengths[middle, ray] * steps[ray, 1]
        covered, area = _drawn(labels, corners, 0)
        if area and covered <= overlap * area:
            count += 1
            _drawn(labels, corners, count)
    return labels


@numba.njit(cache=True)
def _drawn(labels, corners, number):
    """Pixels of a polygon that have a label, and all its pixels; with a number, those without get it.

    A pixel is inside when a line to its right crosses the outline an odd number of times (even-odd rule).
    """
    covered, area = 0, 0
    crossings = np.empty(len(corners), np.float32)
    top = max(int(np.ceil(corners[:, 0].min())), 0)
    end = min(int(np.floor(corners[:, 0].max())), labels.shape[0] - 1)
    for y in range(top, end + 1):
        found = 0
        for ray in range(len(corners)):
            y0, x0 = corners[ray]
            y1, x1 = corners[(ray + 1) % len(corners)]
            if (y0 <= y) != (y1 <= y):
                crossings[found] = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                found += 1
        crossings[:found].sort()
        for pair in range(0, found - 1, 2):
            first = max(int(np.ceil(crossings[pair])), 0)
            for x in range(first, min(int(np.floor(crossings[pair + 1])), labels.shape[1] - 1) + 1):
                area += 1
                covered += labels[y, x] != 0
                if number and labels[y, x] == 0:
                    labels[y, x] = number
    return covered, area


def mirror(maps: Tensor, axis: int) -> Tensor:
    """Maps (33, Y, X) whose rays go the other way along an axis."""
    ray = torch.arange(RAYS, device=maps.device)
    swapped = (-ray if axis == 1 else RAYS // 2 - ray) % RAYS
    return torch.cat([maps[:1], maps[1:][swapped]])


TARGET = Target(
    maps=MAPS,
    outputs=MAPS,
    step=STEP,
    encode=encode,
    loss=loss,
    activate=activate,
    decode=decode,
    enlarge=enlarge,
    mirror=mirror,
    options={"threshold": 0.4, "overlap": 0.4},
    least=0.0,
)


def stardist(
    image: npt.NDArray[np.float32],
    *,
    model: dict,
    diameter_px: float,
    mirrors: int,
    min_share: float,
    threshold: float,
    overlap: float,
) -> dict[str, npt.NDArray]:
    """Nuclei by learned star-convex polygons.

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
    threshold, overlap
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
    return nuclei(image, model, ("stardist", TARGET), partial(decode, threshold=threshold, overlap=overlap), how)
