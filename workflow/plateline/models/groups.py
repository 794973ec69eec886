"""Which training images come from one source, and folds that never part such images.

A score on an image whose twin was trained on says nothing of another microscope.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from plateline.errors import ModelError

# Side of the thumbnails by which near-duplicates are found, and the correlation from which two images are such.
_THUMBNAIL, _ALIKE = 16, 0.9
# Images of one size belong to one source when their levels of background and nuclei differ by less, in octaves.
_OCTAVES = 0.7


def sources(images: Sequence[npt.NDArray], labels: Sequence[npt.NDArray]) -> npt.NDArray[np.int64]:
    """Group (N,) of each image: the same size and like levels, or near-duplicates in any of eight turns.

    Parameters
    ----------
    images : sequence of (Y, X)
        In counts of the camera, as they were saved.
    labels : sequence of (Y, X) integer
        Their nuclei, 0 background.

    Returns
    -------
    (N,) int64
        Groups from 0 in the order of their first image.
    """
    light = np.array([_levels(image, label) for image, label in zip(images, labels, strict=True)])
    found = [image.shape for image in images]
    same = np.zeros((len(images), len(images)), bool)
    for shape in set(found):
        rows = np.flatnonzero([other == shape for other in found])
        one = fcluster(linkage(light[rows], "average"), _OCTAVES, "distance") if rows.size > 1 else np.ones(1)
        same[np.ix_(rows, rows)] = one[:, None] == one
    same |= _alike(images)
    _, group = connected_components(coo_array(same), directed=False)
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _levels(image: npt.NDArray, label: npt.NDArray) -> tuple[float, float]:
    """Octaves of the median background and the median nucleus above it; counts below one are one."""
    background = float(np.median(image[label == 0])) if (label == 0).any() else 0.0
    nuclei = float(np.median(image[label > 0])) if (label > 0).any() else background
    return np.log2(max(background, 1.0)), np.log2(max(nuclei - background, 1.0))


def _alike(images: Sequence[npt.NDArray]) -> npt.NDArray[np.bool_]:
    """Pairs (N, N) of images whose thumbnails correlate, one of them turned or mirrored in any of eight ways."""
    small = [_thumbnail(image) for image in images]
    alike = np.zeros((len(images), len(images)), bool)
    flat = np.array([picture.ravel() for picture in small])
    for turns in range(4):
        for mirror in (False, True):
            turned = [np.rot90(picture.T if mirror else picture, turns).ravel() for picture in small]
            alike |= flat @ np.array(turned).T / flat.shape[1] > _ALIKE
    return alike | alike.T


def _thumbnail(image: npt.NDArray) -> npt.NDArray[np.float64]:
    """Means of 16 x 16 equal blocks, with mean 0 and standard deviation 1; zeros for a flat image."""
    cuts = [np.linspace(0, side, _THUMBNAIL + 1).astype(int)[:-1] for side in image.shape]
    total = np.add.reduceat(np.add.reduceat(image.astype(float), cuts[0], 0), cuts[1], 1)
    sizes = [np.diff([*cut, side]) for cut, side in zip(cuts, image.shape, strict=True)]
    mean = total / np.outer(*sizes)
    return (mean - mean.mean()) / mean.std() if mean.std() > 0 else np.zeros_like(mean)


def folds(group: npt.NDArray[np.int64], stratum: Sequence, *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Fold (N,) of each image, 0 to count - 1: whole groups, the strata spread as evenly as these allow.

    Parameters
    ----------
    group : (N,) int64
        As `sources` gives them.
    stratum : (N,) of anything hashable
        What every fold should have its share of, such as the size of the image.
    count : int
        Number of folds, at least 2.
    seed : int
        Of the order in which groups of equal size are dealt.

    Returns
    -------
    (N,) int64
        Numbered from the fold of the fewest images on.

    Raises
    ------
    ModelError
        If there are fewer groups than folds.
    """
    kinds = np.unique([str(one) for one in stratum], return_inverse=True)[1]
    names, members = np.unique(group, return_counts=True)
    if names.size < count:
        msg = (
            f"{names.size} groups of images cannot make {count} folds; expected at least as many groups; add images of "
            "another source, or lower segment.fit.folds"
        )
        raise ModelError(msg)
    order = np.lexsort((np.random.default_rng(seed).random(names.size), -members))
    dealt = np.zeros((count, kinds.max() + 1))
    wanted = np.bincount(kinds) / count
    fold = np.zeros(len(group), np.int64)
    for left, name in zip(range(names.size, 0, -1), names[order], strict=True):
        here = group == name
        share = np.bincount(kinds[here], minlength=kinds.max() + 1)
        # The fold that this group brings nearest to an equal share of every stratum; of equals, the one with the fewest
        # images, since a stratum of one group fits anywhere; at last, one that has nothing yet.
        cost = (((dealt + share - wanted) ** 2 - (dealt - wanted) ** 2) / wanted).sum(1).round(9)
        images = dealt.sum(1)
        empty = images == 0
        chosen = int(np.lexsort((images, np.where(empty, cost, np.inf) if empty.sum() >= left else cost))[0])
        dealt[chosen] += share
        fold[here] = chosen
    return np.argsort(np.argsort(dealt.sum(1), kind="stable"))[fold]
