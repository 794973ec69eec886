"""A function that labels objects, over the overlapping tiles of a field too large for one go.

Owns how a field is cut and how objects that lie on a seam become one again. What a method must know of the whole field,
such as a threshold, is found before: a tile sees itself and its rim only.
"""

from collections.abc import Callable, Iterator
from itertools import product

import dask.array as da
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from plateline import metrics

Labels = npt.NDArray[np.int32]
# Rows and columns of a tile: from and to, in pixels of the field.
Box = tuple[slice, slice]
# Its own box, the box that it sees, and its labels there.
Tile = tuple[Box, Box, Labels]


def label_in_tiles(
    function: Callable[[npt.NDArray], Labels], image: npt.NDArray, *, tile_px: int, overlap_px: int
) -> Labels:
    """Labels of a field from those of its tiles, objects on a seam joined.

    Parameters
    ----------
    function : callable
        (Y, X) array to (Y, X) int32, 0 for background. What it says of a pixel must not depend on what is further away
        than `overlap_px`; then the result is that of the uncut field, up to the order of numbers.
    image : (Y, X) array
        Any dtype.
    tile_px : int
        Largest side of a tile, in pixels; 0 cuts nothing. Tiles of a field are equal to a pixel.
    overlap_px : int
        How far a tile sees beyond its sides, in pixels; more than an object is long.

    Returns
    -------
    (Y, X) int32
        Numbers may have gaps.

    Notes
    -----
    Two tiles agree on an object that crosses their seam if in the rim that both see it is the same for both by an
    intersection over union of at least 0.5. One on which they do not agree, which needs a function that looks further
    than the overlap, stays cut at the seam. Tiles are worked on one after the other: in a workflow the cores are busy
    with other wells, and memory is that of one tile beside the labels.
    """
    sides = [_cut(size, tile_px) for size in image.shape]
    if tile_px <= 0 or all(len(side) == 2 for side in sides):
        return function(image)
    tiles = _label(function, image, sides, min(overlap_px, min(np.diff(side).min() for side in sides)))
    last = max(int(tile.max()) for _, _, tile in tiles.values())
    joined = _join([_agreed(*pair) for pair in _neighbours(tiles)], last)
    labels = np.zeros(image.shape, np.int32)
    for core, seen, tile in tiles.values():
        labels[core] = joined[tile[_within(core, seen)]]
    return labels


def _cut(size: int, tile_px: int) -> list[int]:
    """Ends of equal pieces of a side, none longer than a tile."""
    pieces = max(-(-size // tile_px), 1) if tile_px > 0 else 1
    return [size * piece // pieces for piece in range(pieces + 1)]


def _label(
    function: Callable[[npt.NDArray], Labels], image: npt.NDArray, sides: list[list[int]], overlap_px: int
) -> dict[tuple[int, ...], Tile]:
    """Each tile by its place: its own box, the box it sees, its labels there, no number used by two tiles."""
    chunks = tuple(tuple(int(step) for step in np.diff(side)) for side in sides)
    seen = da.overlap.overlap(da.from_array(image, chunks=chunks), depth=overlap_px, boundary="none")
    labelled = seen.map_blocks(function, dtype=np.int32, meta=np.zeros((0, 0), np.int32))
    tiles, last = {}, 0
    for place in product(*(range(len(side) - 1) for side in sides)):
        tile = np.asarray(labelled.blocks[place].compute(scheduler="synchronous"))
        tile = np.where(tile > 0, tile + last, 0).astype(np.int32)
        last = max(last, int(tile.max(initial=0)))
        core = [slice(side[at], side[at + 1]) for side, at in zip(sides, place, strict=True)]
        wide = [
            slice(max(edge.start - overlap_px, 0), min(edge.stop + overlap_px, size))
            for edge, size in zip(core, image.shape, strict=True)
        ]
        tiles[place] = ((core[0], core[1]), (wide[0], wide[1]), tile)
    return tiles


def _neighbours(tiles: dict[tuple[int, ...], Tile]) -> Iterator[tuple[Tile, Tile]]:
    """Every two tiles that share a side or a corner, once."""
    for y, x in tiles:
        for other in ((y, x + 1), (y + 1, x - 1), (y + 1, x), (y + 1, x + 1)):
            if other in tiles:
                yield tiles[y, x], tiles[other]


def _within(box: Box, seen: Box) -> Box:
    """A box of the field as one of the array that a tile sees."""
    y, x = (slice(edge.start - wide.start, edge.stop - wide.start) for edge, wide in zip(box, seen, strict=True))
    return y, x


def _common(one: Box, other: Box) -> Box:
    """What two boxes share."""
    y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return y, x


def _agreed(one: Tile, other: Tile) -> npt.NDArray[np.int64]:
    """Pairs of numbers, (N, 2), of the objects that two tiles both see on the seam between them."""
    shared = _common(one[1], other[1])
    views = []
    for _, seen, tile in (one, other):
        view = tile[_within(shared, seen)]
        here, there = (view[_within(_common(core, shared), shared)] for core in (one[0], other[0]))
        crossing = np.intersect1d(here, there)
        views.append(np.where(np.isin(view, crossing), view, 0))
    return metrics.matched_pairs(views[0], views[1], 0.5)[["truth", "found"]].to_numpy(np.int64)


def _join(pairs: list[npt.NDArray[np.int64]], last: int) -> Labels:
    """The new number of each old one, the same for all that pairs connect; 0 stays."""
    one, other = np.concatenate(pairs).T
    graph = coo_array((np.ones(one.size), (one, other)), shape=(last + 1, last + 1))
    groups = connected_components(graph, directed=False)[1]
    return np.where(np.arange(last + 1) > 0, groups + 1, 0).astype(np.int32)
