"""Nuclei by a learned distance map: how deep in its nucleus a pixel lies, flooded from the deepest pixels.

Owns the maps of the method `distance`: what they are made from, what their error costs, and how labels come back.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plateline.models.depth import depth, numbered, object_max
from plateline.models.flood import flood
from plateline.models.loss import Foreground, foreground_loss
from plateline.models.predict import How, nuclei
from plateline.models.target import Target, as_they_are

MAPS, STEP = 2, 1


def encode(labels: Tensor) -> Tensor:
    """Maps (N, 2, Y, X) of labels (N, Y, X): nucleus, and depth as a share of its nucleus' largest, both 0 to 1."""
    deep = depth(labels)
    number, count = numbered(labels)
    largest = object_max(number, count, deep).clamp(min=1)
    return torch.stack([(labels > 0).float(), deep / largest[number]], 1)


def loss(raw: Tensor, target: Tensor, weight: Tensor, foreground: Foreground) -> Tensor:
    """Cost of what the network says: of the nucleus map, and the absolute error of the depth."""
    error = (raw[:, 1].sigmoid() - target[:, 1]).abs() * (0.3 + target[:, 0])
    return foreground_loss(raw[:, 0], target[:, 0], weight, foreground) + 2 * (error * weight).mean()


def activate(raw: Tensor) -> Tensor:
    """Maps of the network's output: probability of a nucleus, and depth, both 0 to 1."""
    return raw.sigmoid()


def decode(maps: npt.NDArray[np.float32], *, threshold: float, prominence: float) -> npt.NDArray[np.int32]:
    """Labels of the maps of one field.

    Parameters
    ----------
    maps : (2, Y, X) float32
        As `activate` gives them.
    threshold : float
        Least probability of a pixel of a nucleus, 0 to 1.
    prominence : float
        Two peaks are two nuclei when the pass between them lies this much below the lower one, in shares of a nucleus'
        depth, 0 to 1.

    Returns
    -------
    (Y, X) int32
        Numbered from 1 in raster order.

    References
    ----------
    Bai and Urtasun 2017, doi:10.1109/CVPR.2017.305 (a learned landscape for the watershed); Naylor et al. 2019,
    doi:10.1109/TMI.2018.2865709 (its regression on nuclei).
    """
    return flood(maps[1], maps[0] > threshold, prominence)


TARGET = Target(
    maps=MAPS,
    outputs=MAPS,
    step=STEP,
    encode=encode,
    loss=loss,
    activate=activate,
    decode=decode,
    enlarge=as_they_are,
    mirror=as_they_are,
    options={"threshold": 0.5, "prominence": 0.1},
    least=0.85,
)


def distance(
    image: npt.NDArray[np.float32],
    *,
    model: dict,
    diameter_px: float,
    mirrors: int,
    min_share: float,
    threshold: float,
    prominence: float,
) -> dict[str, npt.NDArray]:
    """Nuclei by a learned distance map.

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
    threshold, prominence
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
    return nuclei(image, model, ("distance", TARGET), partial(decode, threshold=threshold, prominence=prominence), how)
