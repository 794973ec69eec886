"""How deep pixels lie in their object, and sums over objects: what the target maps of the methods are made of."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels of objects count as no deeper than this; no training crop has nuclei of twice this diameter.
_DEEPEST = 32
_SPREAD = 4096


def depth(labels: Tensor, *, deepest: int = _DEEPEST) -> Tensor:
    """Distance of each object's pixels to the nearest pixel that is not the object's.

    Parameters
    ----------
    labels : (N, Y, X) int
        0 background, -1 unknown.
    deepest : int
        Pixels count as no deeper than this; the time that this takes grows with it.

    Returns
    -------
    (N, Y, X) float32
        Euclidean, pixels, 1 to `deepest` in objects, 0 elsewhere. The edge of the crop and unknown pixels are not the
        end of an object: the visible share of a cut one is as deep as the whole one.

    Notes
    -----
    Exact: the nearest foreign pixel in each row first, then the best row.

    References
    ----------
    Saito and Toriwaki 1994, doi:10.1016/0031-3203(94)90133-3.
    """
    labels = labels.int()
    rows = torch.minimum(_run(labels, deepest), _run(labels.flip(2), deepest).flip(2)) ** 2
    reach = max(1, int(rows[labels > 0].max().sqrt())) if bool((labels > 0).any()) else 1
    # All rows within reach at once, (N, Y, X, 2 reach + 1): few large steps, where a GPU would wait between small ones.
    other = F.pad(labels, (0, 0, reach, reach), value=-1).unfold(1, 2 * reach + 1, 1)
    along = F.pad(rows, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1)
    foreign = torch.where(other == labels[..., None], along, 0.0).masked_fill_(other == -1, torch.inf)
    foreign += torch.arange(-reach, reach + 1, device=labels.device) ** 2
    return torch.where(labels > 0, foreign.amin(3), 0.0).sqrt()


def _run(labels: Tensor, deepest: int) -> Tensor:
    """Steps to the left until a pixel of another label; the deepest where none comes, or only the unknown."""
    place = torch.arange(labels.shape[2], device=labels.device, dtype=torch.int32).expand_as(labels)
    before = F.pad(labels[..., :-1], (1, 0), value=-1)
    start = torch.where(labels != before, place, 0).cummax(2).values
    open_end = before.gather(2, start.long()) == -1
    return torch.where(open_end, deepest, place - start + 1).clamp(max=deepest).float()


def numbered(labels: Tensor) -> tuple[Tensor, int]:
    """Labels (N, Y, X) with numbers of their own in every crop, background 0, and the end of the numbers, int64."""
    most = int(labels.max()) + 1
    crop = torch.arange(len(labels), device=labels.device)[:, None, None] * most
    return torch.where(labels > 0, labels + crop, 0), len(labels) * most


def object_sums(number: Tensor, count: int, values: Tensor) -> Tensor:
    """Sums (count,) of values (N, Y, X) over the pixels of each number; 0 for the background."""
    flat = number.ravel()
    # Background goes to many places, since a GPU adds to one place one value at a time.
    spread = count + torch.arange(len(flat), device=flat.device) % _SPREAD
    total = torch.zeros(count + _SPREAD, device=values.device)
    return total.index_add_(0, torch.where(flat > 0, flat, spread), values.ravel())[:count]


def object_max(number: Tensor, count: int, values: Tensor) -> Tensor:
    """Largest value (count,) over the pixels of each number; 0 for a number without pixels and the background."""
    flat = number.ravel()
    spread = count + torch.arange(len(flat), device=flat.device) % _SPREAD
    most = torch.zeros(count + _SPREAD, device=values.device)
    return most.scatter_reduce_(0, torch.where(flat > 0, flat, spread), values.ravel(), "amax")[:count]


def importance(labels: Tensor, *, diameter_px: float) -> Tensor:
    """Weight of each pixel in a loss: small nuclei more than large ones, 0 where nothing is known.

    Parameters
    ----------
    labels : (N, Y, X) int64
    diameter_px : float
        Of a nucleus whose pixels weigh 1, as background does.

    Returns
    -------
    (N, Y, X) float32
        0 to 3. An object counts by the root of its area instead of its area, because scores count objects.
    """
    number, count = numbered(labels)
    area = object_sums(number, count, torch.ones_like(labels, dtype=torch.float32))
    weight = (diameter_px / (4 / torch.pi * area.clamp(min=1)).sqrt()).clamp(0.5, 3.0)
    weight[0] = 1.0
    return weight[number] * (labels >= 0)
