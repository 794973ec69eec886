"""One field from its planes: projection, all planes one by one, and the pyramid."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ImageError
from plateline.ingest.index import Geometry

# Viewers want the coarsest level to fit a small window.
COARSEST = 512


def build_field(
    planes: pd.DataFrame,
    shared: Geometry,
    read: Callable[[str, int], npt.NDArray],
    *,
    projection: str | dict[str, str],
) -> npt.NDArray:
    """Pixels of one field at one time point.

    Parameters
    ----------
    planes : DataFrame
        Its rows of the index.
    shared : Geometry
        Of the plate.
    read : callable
        (path, page) -> (Y, X) array; may raise `ImageError`.
    projection : str, or dict of str to str
        How several planes of a channel become one, see `project`; for all channels, or by channel (`max` for the rest).

    Returns
    -------
    ndarray
        (C, Y, X) in the plate's dtype, channels in the plate's order.

    Raises
    ------
    ImageError
        If a plane is unreadable, missing, or unlike the rest of the plate.
    """
    pixels = np.empty((len(shared.channels), shared.height, shared.width), shared.dtype)
    for own, name in zip(pixels, shared.channels, strict=True):
        own[...] = _channel(planes, name, shared, read, projection)
    return pixels


def field_planes(
    planes: pd.DataFrame, shared: Geometry, read: Callable[[str, int], npt.NDArray]
) -> Iterator[npt.NDArray]:
    """All planes of a field at one time point, from the lowest z, (C, Y, X) each; arguments as in `build_field`.

    They are read one by one, so that no stack stands in memory. A channel with fewer planes than others is zero beyond
    its last; a field has as many planes as the largest of its plate.
    """
    own = [planes[planes["Metadata_Channel"] == name].sort_values("z") for name in shared.channels]
    for number in range(shared.planes):
        pixels = np.zeros((len(own), shared.height, shared.width), shared.dtype)
        for channel, rows in zip(pixels, own, strict=True):
            if number < len(rows):
                channel[...] = read(rows["path"].iloc[number], rows["page"].iloc[number])
        yield pixels


def _channel(planes, name, shared, read, projection) -> npt.NDArray:
    """One channel of a field, projected: (Y, X)."""
    own = planes[planes["Metadata_Channel"] == name].sort_values("z")
    if own.empty:
        msg = f"channel {name} has no image"
        raise ImageError(msg)
    if (own["status"] != "ok").any():
        raise ImageError(own.loc[own["status"] != "ok", "reason"].iloc[0])
    stack = [read(path, page) for path, page in zip(own["path"], own["page"], strict=True)]
    for path, plane in zip(own["path"], stack, strict=True):
        _check_plane(plane, path, shared)
    if len(stack) == 1:
        return stack[0]
    return project(np.stack(stack), projection if isinstance(projection, str) else projection.get(name, "max"))


def _check_plane(plane: npt.NDArray, path: str, shared: Geometry) -> None:
    got, expected = (plane.shape, str(plane.dtype)), ((shared.height, shared.width), shared.dtype)
    if got != expected:
        msg = f"{path} has shape {got[0]} and dtype {got[1]}; the plate has {expected[0]} and {expected[1]}"
        raise ImageError(msg)


def project(stack: npt.NDArray, projection: str) -> npt.NDArray:
    """One plane from several.

    Parameters
    ----------
    stack : ndarray
        (Z, Y, X), integer or float.
    projection : {'max', 'mean', 'middle', 'best-focus'}
        `mean` is rounded to the stack's dtype; `middle` of an even number is the later one; `best-focus` is the plane
        with the largest variance of the Laplacian over its squared mean, of ties the first.

    Returns
    -------
    ndarray
        (Y, X) of the same dtype.
    """
    if len(stack) == 1:
        return stack[0]
    if projection == "max":
        return stack.max(axis=0)
    if projection == "middle":
        return stack[len(stack) // 2]
    if projection == "best-focus":
        return stack[np.argmax([_sharpness(plane) for plane in stack])]
    mean = stack.mean(axis=0, dtype=np.float64)
    return (np.rint(mean) if stack.dtype.kind in "iu" else mean).astype(stack.dtype)


def _sharpness(plane: npt.NDArray) -> float:
    """Variance of the Laplacian over the squared mean: relative, so that a brighter plane is not a sharper one."""
    mean = float(plane.mean(dtype=np.float64))
    light = np.pad(plane.astype(np.float32), 1, mode="edge")
    sides = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float((sides - 4 * light[1:-1, 1:-1]).var()) / mean**2 if mean > 0 else 0.0


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of each pyramid level: halved, rounded up, until at most `COARSEST` wide and high."""
    sizes = [(height, width)]
    while max(sizes[-1]) > COARSEST:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def pyramid(image: npt.NDArray) -> list[npt.NDArray]:
    """The image and its means over squares of 2, 4, ... pixels, with the sizes of `level_sizes`.

    Parameters
    ----------
    image : ndarray
        (C, Y, X); an odd edge is repeated once before halving.

    Returns
    -------
    list of ndarray
        (C, ceil(Y / 2^n), ceil(X / 2^n)) each, finest first, same dtype.
    """
    levels = [image]
    for _ in level_sizes(*image.shape[-2:])[1:]:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(image: npt.NDArray) -> npt.NDArray:
    height, width = image.shape[-2:]
    if height % 2 or width % 2:
        image = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    half = np.empty((len(image), *(side // 2 for side in image.shape[1:])), image.dtype)
    # Channel by channel: what is added up stays in the cache.
    for plane, small in zip(image, half, strict=True):
        if image.dtype.kind in "iu":
            wide = np.int32 if image.dtype.itemsize < 4 else np.int64
            rows = np.add(plane[0::2], plane[1::2], dtype=wide)
            small[...] = (rows[:, 0::2] + rows[:, 1::2] + 2) // 4
        else:
            rows = plane[0::2] + plane[1::2]
            small[...] = (rows[:, 0::2] + rows[:, 1::2]) / image.dtype.type(4)
    return half
