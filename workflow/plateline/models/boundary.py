"""Nuclei by three classes: background, inside, and the rim where a nucleus ends.

Owns the maps of the method `boundary`: what they are made from, what their error costs, and how labels come back.
"""

import math
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from plateline.models.depth import depth
from plateline.models.flood import flood
from plateline.models.loss import Foreground, foreground_loss
from plateline.models.predict import How, nuclei
from plateline.models.target import Target, as_they_are

MAPS, CLASSES, STEP = 2, 3, 1
# Pixels no deeper than this are rim: two nuclei that touch have two pixels of it on either side.
_RIM_PX = 2.0
# The rim is the smallest class and the one that parts nuclei.
_CLASS_WEIGHTS = (1.0, 1.0, 2.0)


def encode(labels: Tensor) -> Tensor:
    """Maps (N, 2, Y, X) of labels (N, Y, X): nucleus, and its inside without the rim, 0 or 1."""
    inside = depth(labels, deepest=math.ceil(_RIM_PX) + 1) > _RIM_PX
    return torch.stack([labels > 0, inside], 1).float()


def loss(raw: Tensor, target: Tensor, weight: Tensor, foreground: Foreground) -> Tensor:
    """Cost of what the network says: cross entropy of background, inside and rim, and the overlap of inside."""
    number = (target[:, 0] * (2 - target[:, 1])).long()
    cross = F.cross_entropy(raw, number, weight=torch.tensor(_CLASS_WEIGHTS, device=raw.device), reduction="none")
    inside = raw[:, 1] - torch.logsumexp(raw[:, [0, 2]], 1)
    return (cross * weight).mean() + foreground_loss(inside, target[:, 1], weight, foreground)


def activate(raw: Tensor) -> Tensor:
    """Maps of the network's output: probability of a nucleus, and that of its inside, both 0 to 1."""
    background, inside, _ = raw.softmax(1).unbind(1)
    return torch.stack([1 - background, inside], 1)


def decode(maps: npt.NDArray[np.float32], *, threshold: float, prominence: float) -> npt.NDArray[np.int32]:
    """Labels of the maps of one field.

    Parameters
    ----------
    maps : (2, Y, X) float32
        As `activate` gives them.
    threshold : float
        Least probability of a pixel of a nucleus, 0 to 1.
    prominence : float
        Two peaks of inside are two nuclei when the pass between them lies this much below the lower one, 0 to 1.

    Returns
    -------
    (Y, X) int32
        Numbered from 1 in raster order.

    References
    ----------
    Caicedo et al. 2019, doi:10.1002/cyto.a.23863 (three classes for nuclei).
    """
    return flood(maps[1], maps[0] > threshold, prominence)


TARGET = Target(
    maps=MAPS,
    outputs=CLASSES,
    step=STEP,
    encode=encode,
    loss=loss,
    activate=activate,
    decode=decode,
    enlarge=as_they_are,
    mirror=as_they_are,
    options={"threshold": 0.6, "prominence": 0.2},
    least=0.85,
)


def boundary(
    image: npt.NDArray[np.float32],
    *,
    model: dict,
    diameter_px: float,
    mirrors: int,
    min_share: float,
    threshold: float,
    prominence: float,
) -> dict[str, npt.NDArray]:
    """Nuclei by three learned classes.

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
    return nuclei(image, model, ("boundary", TARGET), partial(decode, threshold=threshold, prominence=prominence), how)
