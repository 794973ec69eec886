"""The cost of a foreground map, with the remedies for rare, small and wrongly drawn objects."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Foreground(NamedTuple):
    """How a foreground map is judged.

    ``focal``: exponent that takes weight from easy pixels, 0 for none; ``overlap``: weight of the Tversky term;
    ``missed``: share of the Tversky penalty on missed pixels, 0.5 is Dice; ``doubt``: share of the truth that the
    network's own opinion replaces, against noisy masks.
    """

    focal: float
    overlap: float
    missed: float
    doubt: float


def foreground_loss(raw: Tensor, truth: Tensor, weight: Tensor, how: Foreground) -> Tensor:
    """Cost of logits (N, Y, X) for a truth (N, Y, X) of 0 and 1, weighted by pixel (N, Y, X).

    References
    ----------
    Lin et al. 2017, doi:10.1109/ICCV.2017.324 (focal); Salehi et al. 2017, doi:10.1007/978-3-319-67389-9_44 (Tversky);
    Reed et al. 2015, arXiv:1412.6596 (bootstrapped labels).
    """
    likely = raw.sigmoid()
    believed = (1 - how.doubt) * truth + how.doubt * likely.detach()
    cross = F.binary_cross_entropy_with_logits(raw, believed, reduction="none")
    if how.focal:
        cross = cross * (believed - likely).abs() ** how.focal
    return (cross * weight).mean() + how.overlap * _tversky(likely, believed, weight, how.missed)


def _tversky(likely: Tensor, truth: Tensor, weight: Tensor, missed: float) -> Tensor:
    """1 - Tversky index over the whole batch: a crop without nuclei has none of its own."""
    hit = (likely * truth * weight).sum()
    lost, extra = ((1 - likely) * truth * weight).sum(), (likely * (1 - truth) * weight).sum()
    return 1 - (hit + 1) / (hit + missed * lost + (1 - missed) * extra + 1)
