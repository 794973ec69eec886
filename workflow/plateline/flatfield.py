"""Uneven illumination and dark level of a channel, estimated from many fields of a plate, and their correction.

Every method takes the fields of one channel, (N, Y, X), and returns the relative illumination (mean 1) and the dark
level (counts). Nothing is clipped: a pixel below the dark level stays negative.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from plateline.errors import ImageError
from plateline.identity import FIELD
from plateline.rank_one import BLOCKS, MEAN_PX, MEANS, design, draw, fit_rank_one, shrink, sorted_layers

# The median of one or two fields is those fields' cells, not the illumination.
MIN_FIELDS = 3


def none(images: npt.NDArray, **_unused: object) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Flat illumination (ones) and no dark level (zeros) of the shape of the fields.

    Parameters
    ----------
    images : array of shape (N, Y, X)
        Fields of one channel; only the shape is used.

    Returns
    -------
    illum, dark : float32 arrays of shape (Y, X)
    """
    shape = images.shape[1:]
    return np.ones(shape, np.float32), np.zeros(shape, np.float32)


def median(
    images: npt.NDArray, *, bin_px: int, smooth_px: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Relative illumination as the smoothed median of mean-normalised fields.

    Parameters
    ----------
    images : array of shape (N, Y, X)
        Fields of one channel, counts, any real dtype. Fields without light (mean not above 0) do not count.
    bin_px : int
        Side of the blocks, pixels, that are averaged before the median: at least 1; blocks at the edge may be smaller.
        Larger than a cell, or the median is the background between the cells: on BBBC013 blocks of 8 px made nuclear
        DNA of unseen fields 4 % less even, blocks of 64 px under 2 %.
    smooth_px : float
        Standard deviation, pixels, of the Gaussian that smooths the median, mirrored at the edge; 0 does not smooth.

    Returns
    -------
    illum : float32 array of shape (Y, X)
        Mean 1. Ones for fewer than `MIN_FIELDS` fields with light.
    dark : float32 array of shape (Y, X)
        Zeros: a median over cells and background cannot tell an offset from light.

    References
    ----------
    The retrospective mean of normalised fields, here a median, is compared with others in Singh et al. (2014),
    https://doi.org/10.1111/jmi.12178.
    """
    binned = _bin_fields(images, bin_px)
    if len(binned) < MIN_FIELDS:
        return none(images)
    smooth = ndimage.gaussian_filter(np.median(binned, axis=0), smooth_px / bin_px, mode="reflect")
    illum = _enlarge(smooth, images.shape[1:], bin_px)
    return (illum / illum.mean()).astype(np.float32), none(images)[1]


def basic(images: npt.NDArray, *, order: int, dark: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Relative illumination and dark level as the part of rank one of the sorted fields.

    Parameters
    ----------
    images : array of shape (N, Y, X)
        Fields of one channel, counts, any real dtype. Fields that are dark, of one value all over or with NaN do not
        count.
    order : int
        Highest total order, at least 1, of the Legendre polynomials that the illumination is made of; lower where a
        side has fewer blocks.
    dark : bool
        Whether a dark level is looked for.

    Returns
    -------
    illum : float32 array of shape (Y, X)
        Mean 1. Ones for fewer than `MIN_FIELDS` fields that count, for sides under 64 px, and where no shape stands out
        of the noise between groups of fields.
    dark : float32 array of shape (Y, X)
        One level all over, counts. Zeros where the fields cannot tell an offset from light: under even illumination,
        without evidence for one, or where the darkest sixteenth of the values is on average under 4 counts, which are
        rounding. It is never above the level of the darkest layer.

    Notes
    -----
    As in Peng et al. the values that all fields have at a place are sorted. Cells are anywhere, so each layer of the
    sorted stack, from background to the brightest cells, is ``dark + level * illum``, and what departs from it is the
    luck of where the cells lie. That luck is measured between groups of fields, with its covariance between layers, so
    that layers weigh by what they know (generalised least squares in place of the paper's reweighted L1 norm), the dark
    level has a chi-square, and each polynomial order shrinks towards 0 as its noise commands (James and Stein). The
    order of the fields does not count, nor the unit of the counts.

    References
    ----------
    Peng et al. (2017), https://doi.org/10.1038/ncomms14836: the sorted stack, low rank, dark field. Own implementation.
    """
    edges = [_edges(size) for size in images.shape[1:]]
    fields = _reduce_fields(images, edges)
    if len(fields) < MIN_FIELDS or min(len(starts) for starts in edges) < 2 * MEANS:
        return none(images)
    order = min(order, *(len(starts) // MEANS - 1 for starts in edges))
    inverse = np.linalg.pinv(design(edges, images.shape[1:], order))
    slopes, variance, level = fit_rank_one(inverse @ sorted_layers(fields), dark=dark)
    # Even brightness of the fields lessens the noise where they differ much, and adds to it where they do not.
    fields = fields - np.float32(level)
    even = fields / _brightness(fields)[:, None, None]
    slopes, variance, _ = min(
        (slopes, variance, 0.0), fit_rank_one(inverse @ sorted_layers(even), dark=False), key=lambda fit: fit[1]
    )
    slopes = shrink(slopes, variance, order)
    if not slopes.any():
        return none(images)
    illum = draw(slopes, images.shape[1:], order)
    return illum, np.full(images.shape[1:], level, np.float32)


def provided(
    images: npt.NDArray, *, illum: npt.NDArray, name: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """An illumination that was estimated elsewhere, brought to mean 1.

    Parameters
    ----------
    images : array of shape (N, Y, X)
        Fields of one channel; only the shape is used.
    illum : array of shape (Y, X), real
        Illumination in any unit, above 0, as CellProfiler's CorrectIlluminationCalculate saves it.
    name : str
        File or channel it comes from, for messages.

    Returns
    -------
    illum : float32 array of shape (Y, X)
        Divided by its mean.
    dark : float32 array of shape (Y, X)
        Zeros.

    Raises
    ------
    ImageError
        If `illum` has another shape than the fields, or is not a real, finite number above 0 everywhere.
    """
    if illum.shape != images.shape[1:]:
        msg = (
            f"{name} has shape {illum.shape}; expected that of the fields, (Y, X) = {images.shape[1:]}: "
            "give one made from these fields"
        )
        raise ImageError(msg)
    if illum.dtype.kind not in "iuf":
        msg = f"{name} has dtype {illum.dtype}; expected real numbers: give an illumination saved as NPY"
        raise ImageError(msg)
    wrong = np.argwhere(~(np.isfinite(illum) & (illum > 0)))
    if len(wrong):
        y, x = wrong[0]
        msg = (
            f"{name} is no illumination: {illum[y, x]} at (y, x) = ({y}, {x}); expected numbers above 0: mend the file"
        )
        raise ImageError(msg)
    return (illum / illum.mean(dtype=np.float64)).astype(np.float32), none(images)[1]


def correct(
    image: npt.NDArray, illum: npt.NDArray[np.float32], dark: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Counts under even illumination, ``(raw - dark) / illum``.

    Parameters
    ----------
    image : array of shape (C, Y, X)
        Raw counts of one field.
    illum, dark : float32 arrays of shape (C, Y, X)
        Relative illumination (above 0) and dark level (counts) per channel.

    Returns
    -------
    float32 array of shape (C, Y, X)
        Counts; negative where the pixel lies below the dark level.

    Raises
    ------
    ImageError
        If the three shapes differ.
    """
    if not image.shape == illum.shape == dark.shape:
        msg = (
            f"the field has shape (C, Y, X) = {image.shape}, its illumination {illum.shape} and its dark level "
            f"{dark.shape}; expected equal shapes: rerun rule flatfield_plate on fields of this shape"
        )
        raise ImageError(msg)
    # In place, since a plate goes through here: unsigned counts must not wrap below the dark level.
    corrected = image.astype(np.float32)
    corrected -= dark
    corrected /= illum
    return corrected


def residual(
    images: npt.NDArray, illum: npt.NDArray[np.float32], dark: npt.NDArray[np.float32], *, bin_px: int
) -> tuple[float, float]:
    """Unevenness that all fields share, before and after correction.

    Parameters
    ----------
    images : array of shape (N, Y, X)
        Raw counts of one channel.
    illum, dark : float32 arrays of shape (Y, X)
    bin_px : int
        Side of the averaged blocks, pixels.

    Returns
    -------
    before, after : float
        Standard deviation over the field, relative to the mean, of the binned median of mean-normalised fields, raw
        and corrected; NaN without a field with light.

    Notes
    -----
    It contains the noise of the median, which falls with the number of fields. On the fields that `illum` was
    estimated from it is optimistic.
    """
    corrected = (correct(image[None], illum[None], dark[None])[0] for image in images)
    return _relative_sd(_bin_fields(images, bin_px)), _relative_sd(_bin_fields(corrected, bin_px))


def sample_fields(fields: pd.DataFrame, *, max_fields: int, seed: int) -> pd.DataFrame:
    """At most `max_fields` rows, drawn without replacement, sorted by identity.

    Parameters
    ----------
    fields : pd.DataFrame
        One row per field, any order, with the columns `FIELD` (those present count); any index.
    max_fields : int
        Rows wanted; all are returned where there are no more.
    seed : int
        Of the draw, which depends on the set of fields but not on their order.

    Returns
    -------
    pd.DataFrame
        Same columns, index from 0.
    """
    identity = [column for column in FIELD if column in fields]
    ordered = fields.sort_values(identity, kind="stable", ignore_index=True) if identity else fields
    drawn = np.random.default_rng(seed).permutation(len(ordered))[:max_fields]
    return ordered.iloc[np.sort(drawn)].reset_index(drop=True)


def _bin_fields(images: Iterable[npt.NDArray], bin_px: int) -> npt.NDArray[np.float64]:
    """Block means of each field with light, divided by its mean: (N, Y / bin, X / bin)."""
    # One field at a time: the whole stack as floats would be eight times the plate.
    fields = [_block_means(image, bin_px) / mean for image in images if (mean := float(np.mean(image))) > 0]
    return np.stack(fields) if fields else np.empty((0, 0, 0))


def _block_means(image: npt.NDArray, bin_px: int) -> npt.NDArray[np.float64]:
    return _means(image, [np.arange(0, size, bin_px) for size in image.shape])


def _means(image: npt.NDArray, starts: list[npt.NDArray[np.intp]]) -> npt.NDArray[np.float64]:
    """Means of the blocks that begin at some rows and columns."""
    counts = np.multiply.outer(*(np.diff(s, append=size) for s, size in zip(starts, image.shape, strict=True)))
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    return sums / counts


def _enlarge(binned: npt.NDArray[np.float64], shape: tuple[int, ...], bin_px: int) -> npt.NDArray[np.float64]:
    """Bilinear interpolation between the centres of the blocks, held constant beyond the outermost."""
    y, x = ((np.arange(size) + 0.5) / bin_px - 0.5 for size in shape)
    rows = ndimage.map_coordinates(
        binned, np.meshgrid(y, np.arange(binned.shape[1]), indexing="ij"), order=1, mode="nearest"
    )
    return ndimage.map_coordinates(rows, np.meshgrid(np.arange(len(y)), x, indexing="ij"), order=1, mode="nearest")


def _relative_sd(binned: npt.NDArray[np.float64]) -> float:
    if not len(binned):
        return np.nan
    image = np.median(binned, axis=0)
    return float(image.std() / image.mean())


def _edges(size: int) -> npt.NDArray[np.intp]:
    """First pixels of the means along a side: a multiple of `MEANS`, sizes alike to one pixel; none if too short."""
    n = MEANS * min(BLOCKS, size // (MEANS * MEAN_PX))
    return np.arange(n) * size // max(n, 1)


def _reduce_fields(images: npt.NDArray, edges: list[npt.NDArray[np.intp]]) -> npt.NDArray[np.float32]:
    """Means of each field that counts, (N, y, x), by brightness, so that any order of the fields gives the same."""
    if not all(len(starts) for starts in edges):
        return np.empty((0, 0, 0), np.float32)
    reduced = np.stack([np.empty([len(starts) for starts in edges]), *(_means(image, edges) for image in images)])[1:]
    mean, spread = reduced.mean(axis=(1, 2)), reduced.std(axis=(1, 2))
    by_brightness = np.lexsort((spread, mean))
    return reduced[by_brightness[((mean > 0) & (spread > 0))[by_brightness]]].astype(np.float32)


def _brightness(fields: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median of each field, but no less than a hundredth of its mean."""
    median = np.median(fields, axis=(1, 2))
    return np.maximum(median, 0.01 * np.abs(fields.mean(axis=(1, 2))) + np.finfo(np.float32).tiny)
