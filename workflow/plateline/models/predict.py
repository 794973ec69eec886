"""Labels of a field by a trained network: its scale, its tiles, its maps, and the decoder of its method.

Owns the way from an image of any size and magnification to the network and back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plateline.errors import ModelError
from plateline.models import room
from plateline.models.keep import kept
from plateline.models.light import CURVES, curves, unit
from plateline.models.target import Maps, Target
from plateline.models.unet import STRIDE, fold_norms, from_arrays, placed

# Larger inputs go through the network in tiles of at most this side, each with a margin that is thrown away: a fifth of
# the work where two tiles of half the side would do, so that most cameras' images are one tile.
_TILE_PX, _MARGIN_PX = 2048, 64
# Nuclei within this factor of the network's own scale are left at theirs: rescaling would gain nothing. Others are
# brought to it fully: small ones that are enlarged less are outlined less well.
_NEAR = 1.15
# Sides of the middle of an input from which the size of its nuclei is read: the larger one where the smaller has too
# few nuclei; the share of an image from which the whole is looked at, as its maps may then be used; and how often
# scales are tried.
_SAMPLES_PX, _ENOUGH, _WHOLE, _TRIES = (384, 768), 25, 0.5, 3
# The usual nucleus: this share of the area of all lies in smaller ones. It is about the median one, but many specks
# weigh no more than a nucleus. Its diameter is told in steps of an eighth of an octave, so that the last digit of a
# map, which differs between devices, seldom changes the scale.
_SHARE_OF_AREA, _STEPS = 0.3, 8
# Images are made no larger or smaller than by these factors.
_FACTORS = (0.05, 4.0)

Labels = npt.NDArray[np.int32]
Decoder = Callable[[Maps], Labels]


class Trained(NamedTuple):
    """A network that is ready to infer, on its device; its method; the diameter of nuclei it is best at, pixels."""

    network: nn.Module
    target: Target
    diameter_px: float
    device: torch.device


class How(NamedTuple):
    """What a user says.

    ``diameter_px``: of a usual nucleus, 0 unknown; ``mirrors``: copies to average over; ``min_share``: smallest area,
    in shares of a usual nucleus'.
    """

    diameter_px: float
    mirrors: int
    min_share: float


def nuclei(
    image: npt.NDArray[np.float32], model: dict, method: tuple[str, Target], decode: Decoder, how: How
) -> dict[str, npt.NDArray]:
    """What a segmenter returns: ``nuclei`` (Y, X) int32 and ``confidence`` (Y, X) float32 of an image (C, Y, X).

    Raises
    ------
    ModelError
        If the model is of another method.
    """
    name, target = method
    if model["card"]["method"] != name:
        msg = f"the model is one of method {model['card']['method']}; expected {name}; correct segment.{name}.model"
        raise ModelError(msg)
    if image[0].size == 0:
        return {"nuclei": np.zeros(image.shape[1:], np.int32), "confidence": np.zeros(image.shape[1:], np.float32)}
    trained = _ready(model, target)
    labels, confidence, size = find(image[0], trained, decode, diameter_px=how.diameter_px, mirrors=how.mirrors)
    return {
        "nuclei": kept(labels, confidence, how.min_share * np.pi / 4 * size**2, target.least),
        "confidence": confidence,
    }


# Networks that this process has prepared, by the checksum of their weights and the kind of device: preparing takes
# longer than a field.
_READY: dict[tuple[str, str], "Trained"] = {}


def _ready(model: dict, target: Target) -> "Trained":
    """The network of a model file, on the device of this process."""
    device = room.device()
    name = model["checksum"], device.type
    if name not in _READY:
        size = float(model["card"]["diameter_px"])
        _READY[name] = prepare(model["arrays"], target, diameter_px=size, device=device)
    return _READY[name]


def prepare(arrays: dict[str, npt.NDArray], target: Target, *, diameter_px: float, device: torch.device) -> Trained:
    """A network made of its weights: normalisation folded into convolutions, in the layout that runs fastest.

    Parameters
    ----------
    arrays : dict of str to float32 arrays
        Weights by name.
    target : Target
        The method whose maps it gives.
    diameter_px : float
        Of most nuclei it was trained on.
    device : torch.device
        Where it runs.
    """
    network = fold_norms(from_arrays(arrays, channels=CURVES, maps=target.outputs, step=target.step))
    return Trained(placed(network, device), target, diameter_px, device)


def find(
    image: npt.NDArray[np.float32], trained: Trained, decode: Decoder, *, diameter_px: float, mirrors: int
) -> tuple[Labels, npt.NDArray[np.float32], float]:
    """Labels of the nuclei of a field, the probability that a pixel is one's, and the diameter of a usual nucleus.

    Parameters
    ----------
    image : (Y, X) float32
        The channel that stains nuclei, in any unit.
    trained : Trained
        The network.
    decode : callable
        Maps (K, Y, X) -> labels (Y * step, X * step).
    diameter_px : float
        Usual diameter of a nucleus in this image, pixels; 0 looks for it.
    mirrors : int
        Mirrored copies whose maps are averaged with the image's own: 0, 1 or 3.

    Returns
    -------
    labels : (Y, X) int32
        Numbers may have gaps.
    probability : (Y, X) float32
        0 to 1.
    size : float
        `diameter_px`, or what was found, pixels.
    """
    seen = unit(image)
    looked: dict[float, Maps] = {}
    if diameter_px:
        size, factor = diameter_px, scale_factor(trained.diameter_px, diameter_px)
    else:
        size, factor = look_for_size(seen, trained, decode, looked)
    maps = looked[factor] if factor in looked and not mirrors else maps_at(seen, trained, factor, mirrors)
    maps = _enlarged(maps, trained.target, image.shape)
    return _nearest(decode(maps), image.shape), _bilinear(maps[:1], image.shape)[0], size


def scale_factor(own_px: float, size_px: float) -> float:
    """By how much an image is enlarged for the network; 1 where its nuclei are about right."""
    factor = own_px / size_px
    return 1.0 if 1 / _NEAR < factor < _NEAR else float(np.clip(factor, *_FACTORS))


def look_for_size(
    seen: npt.NDArray[np.float32], trained: Trained, decode: Decoder, looked: dict[float, Maps]
) -> tuple[float, float]:
    """Diameter of a usual nucleus in the middle of an image, as the network itself finds them, and the scale to use.

    Parameters
    ----------
    seen : (Y, X) float32
        As `unit` gives it.
    trained, decode
        As for `find`.
    looked : dict
        Takes the maps of the whole image, by factor, where these came up.

    Returns
    -------
    size : float
        Pixels; the network's own diameter where no nucleus is found at any scale.
    factor : float
        By how much the image is enlarged: where a look finds the size that it was made for, its own, so that its maps,
        which `looked` may have, can be used.

    Notes
    -----
    The first look is at the image's own scale, the next at the scale that the one before asks for.
    """
    size = trained.diameter_px
    for _ in range(_TRIES):
        factor = scale_factor(trained.diameter_px, size)
        areas = _areas(seen, trained, decode, factor, looked)
        if not areas.size:
            break
        before, size = size, usual_diameter(areas / factor**2)
        if max(before, size) < _NEAR * min(before, size):
            return size, factor
    return size, scale_factor(trained.diameter_px, size)


def usual_diameter(areas: npt.NDArray) -> float:
    """Diameter of the usual one of some objects, pixels: of a disc of its area, rounded to an eighth of an octave."""
    areas = np.sort(areas)
    total = np.cumsum(areas)
    usual = areas[np.searchsorted(total, _SHARE_OF_AREA * total[-1])]
    return float(2 ** (np.round(_STEPS * np.log2(np.sqrt(4 / np.pi * usual))) / _STEPS))


def _areas(
    seen: npt.NDArray[np.float32], trained: Trained, decode: Decoder, factor: float, looked: dict[float, Maps]
) -> npt.NDArray[np.int64]:
    """Areas of the nuclei in the middle of an image, pixels at the scale of the network."""
    areas = np.zeros(0, np.int64)
    for side in _SAMPLES_PX:
        sample = _middle(seen, side / factor)
        maps = maps_at(sample, trained, factor, 0)
        if sample.shape == seen.shape:
            looked[factor] = maps
        areas = np.bincount(decode(maps).ravel())[1:]
        areas = areas[areas > 0]
        if areas.size >= _ENOUGH or sample.shape == seen.shape:
            break
    return areas


def _middle(seen: npt.NDArray, side: float) -> npt.NDArray:
    """The middle of an image, no longer than a side; the whole where that is half of it or more."""
    starts = [max(0, int((own - side) / 2)) for own in seen.shape]
    middle = seen[tuple(slice(start, start + int(side)) for start in starts)]
    return middle if middle.size < _WHOLE * seen.size else seen


def maps_at(seen: npt.NDArray[np.float32], trained: Trained, factor: float, mirrors: int) -> Maps:
    """Maps (K, Y * factor / step, X * factor / step) of an image (Y, X) enlarged by a factor, over mirrored copies.

    Notes
    -----
    One field at a time: a few tiles fill a device already, and what a field waits for is its decoding on the CPU. Other
    worker processes use the device meanwhile. The same field gives the same maps again: a device may choose among its
    convolutions only those that always add up in one order.
    """
    image = torch.from_numpy(np.ascontiguousarray(seen))[None, None].to(trained.device)
    if factor != 1:
        size = [max(1, round(side * factor)) for side in seen.shape]
        image = F.interpolate(image, size=size, mode="bilinear", antialias=True)
    with torch.inference_mode(), _repeatable():
        return _tiled(curves(image[0]), trained, mirrors).cpu().numpy()


@contextmanager
def _repeatable() -> Iterator[None]:
    """Convolutions of a device that always add up in one order; a training is faster without."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _tiled(image: Tensor, trained: Trained, mirrors: int) -> Tensor:
    """Maps (K, Y / step, X / step) of an input (1, C, Y, X), whole or in equal tiles whose margins are cut off."""
    (high, wide), step = image.shape[2:], trained.target.step
    mode = "reflect" if min(high, wide) > STRIDE else "replicate"
    padded = F.pad(image, (0, -wide % STRIDE, 0, -high % STRIDE), mode=mode)
    (tall, broad), (tops, lefts) = zip(*(_cuts(side) for side in padded.shape[2:]), strict=True)
    places = [(top, left) for top in tops for left in lefts]
    maps = padded.new_empty(trained.target.maps, *(side // step for side in padded.shape[2:]))
    for batch in _batches(places, room.tiles()):
        tiles = torch.cat([padded[:, :, top : top + tall, left : left + broad] for top, left in batch])
        for (top, left), tile in zip(batch, _averaged(tiles, trained, mirrors), strict=True):
            # The next tile writes over this one's far margin.
            cut_y, cut_x = ((_MARGIN_PX if start else 0) // step for start in (top, left))
            here = maps[:, top // step :, left // step :][:, : tall // step, : broad // step]
            here[:, cut_y:, cut_x:] = tile[:, cut_y:, cut_x:]
    return maps[:, : -(-high // step), : -(-wide // step)]


def _cuts(side: int) -> tuple[int, list[int]]:
    """Length of the tiles along a side, a multiple of the stride as the side is, and where they start."""
    count = max(1, -(-(side - 2 * _MARGIN_PX) // _TILE_PX))
    inner = -(-(side - 2 * _MARGIN_PX) // (count * STRIDE)) * STRIDE
    length = inner + 2 * _MARGIN_PX if count > 1 else side
    return length, [min(number * inner, side - length) for number in range(count)]


def _batches(places: list[tuple[int, int]], size: int) -> list[list[tuple[int, int]]]:
    return [places[first : first + size] for first in range(0, len(places), size)]


def _averaged(tiles: Tensor, trained: Trained, mirrors: int) -> Tensor:
    """Maps (N, K, Y / step, X / step) of inputs (N, C, Y, X), averaged over mirrored copies."""
    copies = [_mirrored_maps(tiles, trained, axes) for axes in ((), (2,), (1,), (1, 2))[: mirrors + 1]]
    return torch.stack(copies).mean(0) if mirrors else copies[0]


def _mirrored_maps(tiles: Tensor, trained: Trained, axes: tuple[int, ...]) -> Tensor:
    """Maps (N, K, Y / step, X / step) of inputs (N, C, Y, X) that the network sees mirrored along axes."""
    # Where maps are coarser than the image, the pixels they stand for must fall on such pixels again.
    shift = trained.target.step - 1
    for axis in axes:
        tiles = tiles.flip(axis + 1).roll(shift, axis + 1)
    maps = trained.target.activate(trained.network(tiles.to(memory_format=torch.channels_last)))
    for axis in axes:
        back = maps.flip(axis + 1).roll(shift, axis + 1)
        maps = torch.stack([trained.target.mirror(of_tile, axis) for of_tile in back])
    return maps


def _enlarged(maps: Maps, target: Target, shape: tuple[int, ...]) -> Maps:
    """Maps at the resolution of an image, where theirs is lower; as they are where it is not."""
    wanted = [-(-side // target.step) for side in shape]
    if maps.shape[1] >= wanted[0] and maps.shape[2] >= wanted[1]:
        return maps
    return target.enlarge(_bilinear(maps, wanted), wanted[0] / maps.shape[1])


def _bilinear(maps: Maps, shape: tuple[int, ...] | list[int]) -> Maps:
    """Maps (K, Y, X) interpolated to another height and width."""
    if maps.shape[1:] == tuple(shape):
        return maps
    return F.interpolate(torch.from_numpy(maps)[None], size=list(shape), mode="bilinear")[0].numpy()


def _nearest(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Labels at the resolution of an image: an odd last row cut off, or the nearest pixels of a finer one."""
    if all(own <= side < own + 2 for side, own in zip(labels.shape, shape, strict=True)):
        return np.ascontiguousarray(labels[: shape[0], : shape[1]])
    rows, columns = (
        ((np.arange(own) + 0.5) * side / own).astype(int) for side, own in zip(labels.shape, shape, strict=True)
    )
    return labels[np.ix_(rows, columns)]
