"""Training crops, drawn and changed on the device that trains: geometry, neighbours, light, optics, noise.

Owns what a network is made robust against. Images are already scaled to 0-1 between their percentiles. Labels are 0 for
background and -1 where a crop reaches out of its image, which no loss counts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from plateline.models.depth import numbered, object_sums

# Coarser copies that are kept of every image: shrinking by more than two from one level would alias its noise.
_LEVELS = 4


class Pool(NamedTuple):
    """Images and labels of a training set, end to end on one device.

    ``pixels``: per level, (P,) float32; ``labels``: (P,) int32; ``start``: per level, (N,) first pixel of each image;
    ``sides``: per level, (N, 2); ``diameter_px``: (N,) median nucleus; ``weight``: (N,) chance of being drawn.
    """

    pixels: list[Tensor]
    labels: Tensor
    start: list[Tensor]
    sides: list[Tensor]
    diameter_px: Tensor
    weight: Tensor


class Dice(NamedTuple):
    """The random numbers of one run, on its device."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers from low to high, of a shape."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, sigma: float, *shape: int) -> Tensor:
        """Normal numbers around 0, of a shape."""
        return sigma * torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, share: float, count: int) -> Tensor:
        """True for about a share of `count` samples, (count, 1, 1)."""
        return self.uniform(0, 1, count, 1, 1) < share


def roll(seed: int, device: torch.device) -> Dice:
    """Dice with a seed."""
    return Dice(torch.Generator(device).manual_seed(seed), device)


def pool(
    images: Sequence[npt.NDArray[np.float32]],
    labels: Sequence[npt.NDArray[np.int32]],
    *,
    diameter_px: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
    device: torch.device,
) -> Pool:
    """A training set on a device.

    Parameters
    ----------
    images : sequence of (Y, X) float32
        Of any sizes, background about 0, bright nuclei about 1.
    labels : sequence of (Y, X) int32
        0 is background; the same sizes.
    diameter_px : (N,) float64
        Median diameter of the nuclei of each image.
    weight : (N,) float64
        Chance of each image to be drawn, in any unit.
    device : torch.device
        Where everything is put.
    """
    levels = [[torch.from_numpy(np.ascontiguousarray(image, np.float32)) for image in images]]
    for _ in range(_LEVELS - 1):
        levels.append([_halved(image) for image in levels[-1]])
    sides = [torch.tensor([image.shape for image in level], device=device) for level in levels]
    start = [(side.prod(1).cumsum(0) - side.prod(1)) for side in sides]
    flat = torch.cat([torch.from_numpy(np.ascontiguousarray(image, np.int32)).ravel() for image in labels])
    return Pool(
        [torch.cat([image.ravel() for image in level]).to(device) for level in levels],
        flat.to(device),
        start,
        sides,
        torch.as_tensor(diameter_px, dtype=torch.float32, device=device),
        torch.as_tensor(weight, dtype=torch.float32, device=device),
    )


def _halved(image: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd last row or column stands for itself."""
    return F.avg_pool2d(image[None], 2, ceil_mode=True, count_include_pad=False)[0]


def draw(pool: Pool, dice: Dice, *, count: int, side: int, diameter_px: float) -> tuple[Tensor, Tensor]:
    """Crops and their labels, changed in every way a microscope changes images.

    Parameters
    ----------
    pool : Pool
        Where they are cut.
    dice : Dice
        Of the run.
    count, side : int
        Crops and their side, pixels.
    diameter_px : float
        Diameter that nuclei mostly have in a crop, whatever they have in their image.

    Returns
    -------
    image : (count, side, side) float32
    labels : (count, side, side) int64
        Numbers of an image are kept, so they have gaps.
    """
    image, labels = _cut(pool, dice, count, side, _diameters(dice, count, diameter_px))
    image, labels = _crowd(image, labels, dice)
    image = _relight(image, labels, dice)
    image, labels = _empty(image, labels, dice)
    return _expose(_defocus(image, dice), dice), labels


def _diameters(dice: Dice, count: int, usual: float) -> Tensor:
    """Wanted diameters: mostly the usual one, some from a fifth to five times of it, so that any scale can be met."""
    near = usual * torch.exp(dice.normal(0.25, count))
    far = usual * torch.exp(dice.uniform(-1.2, 1.4, count))
    return torch.where(dice.uniform(0, 1, count) < 0.8, near, far)


def _cut(pool: Pool, dice: Dice, count: int, side: int, diameter: Tensor) -> tuple[Tensor, Tensor]:
    """Turned, stretched, bent and scaled crops around random places."""
    chosen = torch.multinomial(pool.weight, count, replacement=True, generator=dice.generator)
    step = (pool.diameter_px[chosen] / diameter).clamp(0.2, 6.0)
    sides = pool.sides[0][chosen].float()  # (N, 2)
    # A crop reaches a little over the edge of its image, where nuclei are cut as they are in use.
    spare = (sides - 0.7 * side * step[:, None]).clamp(min=0)
    middle = sides / 2 + (dice.uniform(0, 1, count, 2) - 0.5) * spare
    place = _places(dice, count, side, step) + middle[:, None, None]
    inside = ((place >= 0) & (place < sides[:, None, None])).all(-1)
    y, x = (_mirrored(place[..., axis].floor().long(), pool.sides[0][chosen, axis]) for axis in (0, 1))
    flat = pool.start[0][chosen][:, None, None] + y * pool.sides[0][chosen, 1, None, None] + x
    labels = torch.where(inside, pool.labels[flat].long(), -1)
    coarse = step.log2().round().clamp(0, _LEVELS - 1)
    image = torch.zeros_like(place[..., 0])
    for level in range(_LEVELS):
        rows = (coarse == level).nonzero()[:, 0]
        if len(rows):
            image[rows] = _sample(pool, level, chosen[rows], place[rows])
    return image, labels


def _places(dice: Dice, count: int, side: int, step: Tensor) -> Tensor:
    """Places (N, Y, X, 2) of the pixels of crops around the origin, in pixels of the image; `step` is one pixel's."""
    angle = dice.uniform(0, 2 * math.pi, count)
    # Half stay on the pixel grid, so that not every crop is blurred by being turned.
    angle = torch.where(dice.uniform(0, 1, count) < 0.5, (angle / (math.pi / 2)).round() * (math.pi / 2), angle)
    stretch = torch.exp(dice.normal(0.08, count, 2)) * step[:, None]
    mirror = torch.where(dice.uniform(0, 1, count) < 0.5, -1.0, 1.0)
    grid = torch.arange(side, device=dice.device, dtype=torch.float32) - (side - 1) / 2
    y, x = torch.meshgrid(grid, grid, indexing="ij")  # (Y, X)
    y, x = y * stretch[:, :1, None], x * (stretch[:, 1] * mirror)[:, None, None]  # (N, Y, X)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    bend = F.interpolate(dice.normal(1.5, count, 2, 5, 5), size=(side, side), mode="bicubic", align_corners=True)
    bend = bend * (step * (dice.uniform(0, 1, count) < 0.3))[:, None, None, None]
    return torch.stack([cos * y - sin * x, sin * y + cos * x], -1) + bend.permute(0, 2, 3, 1)


def _sample(pool: Pool, level: int, chosen: Tensor, place: Tensor) -> Tensor:
    """Bilinear values (N, Y, X) of one level at places of the finest; past the edge its mirror image."""
    sides, start = pool.sides[level][chosen], pool.start[level][chosen]
    at = place / 2**level - 0.5
    first = at.floor()
    part = at - first  # (N, Y, X, 2)
    value = torch.zeros_like(place[..., 0])
    for dy in (0, 1):
        y = _mirrored(first[..., 0].long() + dy, sides[:, 0])
        row = start[:, None, None] + y * sides[:, 1, None, None]
        for dx in (0, 1):
            x = _mirrored(first[..., 1].long() + dx, sides[:, 1])
            share = (part[..., 0] - (1 - dy)).abs() * (part[..., 1] - (1 - dx)).abs()
            value += share * pool.pixels[level][row + x]
    return value


def _mirrored(at: Tensor, size: Tensor) -> Tensor:
    """Places (N, Y, X) folded back at both ends of 0 to size (N,); still outside after that, at the nearest end."""
    last = size[:, None, None] - 1
    return torch.minimum((last - (last - at.abs()).abs()).clamp(min=0), last)


def _crowd(image: Tensor, labels: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Nuclei of the next crop set into the gaps of some crops: whole ones that cover no nucleus, so they may touch."""
    other, guests = image.roll(1, 0), labels.roll(1, 0)
    above = int(labels.max()) + 1
    number, count = numbered(guests)
    covered = object_sums(number, count, (labels != 0).float())
    fits = (guests > 0) & (covered[number] == 0) & dice.chance(0.25, len(image))
    return torch.where(fits, torch.maximum(image, other), image), torch.where(fits, guests + above, labels)


def _relight(image: Tensor, labels: Tensor, dice: Dice) -> Tensor:
    """Nuclei of different brightness, haze, uneven light and background, another contrast curve, seldom inverted."""
    count, side, _ = image.shape
    number, objects = numbered(labels)
    gain = torch.exp(dice.normal(0.35, objects))[number]
    gain = torch.where((labels > 0) & dice.chance(0.4, count), gain, 1.0)
    image = image * F.avg_pool2d(gain, 3, 1, 1, count_include_pad=False)
    haze = _haze(image, dice.uniform(4, 12, count))
    image = torch.where(dice.chance(0.2, count), image + dice.uniform(0, 0.8, count, 1, 1) * haze, image)
    slope = F.interpolate(dice.normal(1, count, 1, 3, 3), size=(side, side), mode="bicubic", align_corners=True)[:, 0]
    image = torch.where(dice.chance(0.3, count), image * torch.exp(0.4 * slope), image)
    slope = F.interpolate(dice.uniform(0, 1, count, 1, 3, 3), size=(side, side), mode="bilinear")[:, 0]
    image = torch.where(dice.chance(0.3, count), image + dice.uniform(0, 0.6, count, 1, 1) * slope, image)
    image = image.clamp(min=0) ** torch.exp(dice.normal(0.35, count, 1, 1))
    return torch.where(dice.chance(0.03, count), 1 - image.clamp(max=1), image)


def _haze(image: Tensor, sigma: Tensor) -> Tensor:
    """A wide blur of each image (N, Y, X), taken at a quarter of the resolution."""
    coarse = _blurred(F.avg_pool2d(image, 4, ceil_mode=True, count_include_pad=False), sigma / 4)
    return F.interpolate(coarse[:, None], size=image.shape[1:], mode="bilinear")[:, 0]


def _empty(image: Tensor, labels: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """A few crops without nuclei, of light and noise only: what a blank field looks like once it is scaled."""
    count, side, _ = image.shape
    smooth = F.interpolate(dice.uniform(0, 1, count, 1, 4, 4), size=(side, side), mode="bicubic")[:, 0]
    blank = dice.uniform(0, 0.7, count, 1, 1) * smooth + dice.normal(0.2, count, side, side)
    chosen = dice.chance(0.03, count)
    return torch.where(chosen, blank, image), torch.where(chosen, labels.clamp(max=0), labels)


def _defocus(image: Tensor, dice: Dice) -> Tensor:
    """Some crops blurred by up to two and a half pixels, some sharpened."""
    count = len(image)
    sigma = torch.where(dice.uniform(0, 1, count) < 0.35, dice.uniform(0.3, 2.5, count), 0.01)
    image = _blurred(image, sigma)
    sharp = image + dice.uniform(0, 1, count, 1, 1) * (image - _blurred(image, dice.uniform(0.8, 1.5, count)))
    return torch.where(dice.chance(0.1, count), sharp, image)


def _expose(image: Tensor, dice: Dice) -> Tensor:
    """Shot and read noise, coarse steps of grey, another gain and offset."""
    count, side, _ = image.shape
    shot, read = dice.uniform(0, 1, count, 1, 1) ** 2 * 0.2, dice.uniform(0, 1, count, 1, 1) ** 3 * 0.2
    noise = dice.normal(1, count, side, side) * (image.clamp(min=0).sqrt() * shot + read)
    # Binned or compressed images have noise that is wider than a pixel.
    noise = torch.where(dice.chance(0.3, count), 1.8 * _blurred(noise, dice.uniform(0.5, 0.9, count)), noise)
    image = torch.where(dice.chance(0.7, count), image + noise, image)
    steps = dice.uniform(8, 60, count, 1, 1)
    image = torch.where(dice.chance(0.15, count), (image * steps).round() / steps, image)
    return image * torch.exp(dice.normal(0.25, count, 1, 1)) + dice.normal(0.05, count, 1, 1)


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Each image (N, Y, X) under a Gaussian of its own sigma, pixels."""
    reach = max(1, math.ceil(2.5 * float(sigma.max())))
    offset = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]  # (N, 1, K)
    padded = F.pad(image[None], (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None], groups=len(image))
    return F.conv2d(across, kernel[..., None], groups=len(image))[0]
