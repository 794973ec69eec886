"""What a method of segmentation is to the network: a pair of encoding labels to maps and reading maps back."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from plateline.models.loss import Foreground

Maps = npt.NDArray[np.float32]


class Target(NamedTuple):
    """The maps of one method, of which the first is the probability that a pixel is a nucleus'.

    ``maps``: their number, K; ``outputs``: how many the network gives for them; ``step``: pixels of the image per pixel
    of the maps, 1 or 2; ``encode``: labels (N, Y, X) -> maps (N, K, Y / step, X / step); ``loss``: output of the
    network, encoded labels, weights of pixels and `Foreground` -> cost; ``activate``: output of the network -> maps;
    ``decode``: maps (K, Y, X) and its own keywords -> labels (Y * step, X * step); ``enlarge``: maps (K, Y, X)
    whose pixels are now smaller by a factor -> maps in the new pixels; ``mirror``: what the maps (K, Y, X) of a
    mirrored image mean for the image, by axis (1 for y, 2 for x), once they are mirrored back; ``options``: usual
    keywords of the decoder; ``least``: mean probability below which an object is noise.
    """

    maps: int
    outputs: int
    step: int
    encode: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor, Foreground], Tensor]
    activate: Callable[[Tensor], Tensor]
    decode: Callable[..., npt.NDArray[np.int32]]
    enlarge: Callable[[Maps, float], Maps]
    mirror: Callable[[Tensor, int], Tensor]
    options: dict[str, float]
    least: float


def as_they_are(maps, change: float):
    """Maps that hold neither lengths nor directions, in smaller pixels or of a mirrored image: the same."""
    return maps
