"""Shards of an OME-Zarr plate, encoded and decoded directly.

A plate writes and reads one shard per field and time point, always whole. zarr-python does the same in three to five
times the CPU time of the codec itself; the tests hold both equal, byte for byte of the pixels, in both directions.
"""

import json
import shutil
import struct
from itertools import product
from pathlib import Path

import google_crc32c
import numcodecs.blosc
import numpy as np
import numpy.typing as npt

from plateline.run import writing

# Measured: larger chunks read fastest, zstd 1 with bit shuffle packs 12-bit cameras best for its time, and in blocks of
# 1 MiB better still and half again as fast as in those that Blosc chooses.
CHUNK = 1024
LEVEL = 1
BLOCK = 2**20
# The item size comes with the array that is encoded.
_BLOSC = numcodecs.Blosc(cname="zstd", clevel=LEVEL, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=BLOCK)
# A job has one process per core already.
numcodecs.blosc.use_threads = False
# An inner chunk that is not there has this offset and length.
_ABSENT = 2**64 - 1


def shard_path(array: Path, time: int, axes: int, plane: int = 0) -> Path:
    """File of the shard of one time point and plane: `c/{time}/0/{plane}/0/0`; labels have no channels before it."""
    return array.joinpath("c", str(time), *["0"] * (axes - 4), str(plane), "0", "0")


def write_shard(array: Path, time: int, pixels: npt.NDArray, plane: int = 0) -> None:
    """Write one time point and plane of an array, all its other axes whole.

    Parameters
    ----------
    array : Path
        Folder of the array, with its `zarr.json`.
    time : int
        Counted from 0.
    pixels : ndarray
        (C, 1, Y, X) or (1, Y, X), of the array's shape without time. All zero: the shard is taken away, since zero
        is the fill value.
    plane : int
        Place along z, counted from 0.
    """
    chunk, dtype = _layout(array)
    path = shard_path(array, time, pixels.ndim + 1, plane)
    if not pixels.any():
        path.unlink(missing_ok=True)
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(pixels.astype(dtype, copy=False), chunk[1:]))


def clear_shard(array: Path, time: int) -> None:
    """Take one time point of an array away, all its planes: it reads as fill value."""
    shutil.rmtree(array / "c" / str(time), ignore_errors=True)


def read_shard(array: Path, time: int, places: slice = slice(None)) -> npt.NDArray:
    """One time point of an array, without the time axis; of the next axis all, or some places."""
    document = json.loads((array / "zarr.json").read_text())
    shape = document["shape"][1:]
    chunk, dtype = _layout(array)
    path = shard_path(array, time, len(shape) + 1)
    if not path.is_file():
        return np.zeros(shape, dtype)[places]
    return decode(path.read_bytes(), shape, chunk[1:], dtype, places)


def _layout(array: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape of an inner chunk, and dtype."""
    document = json.loads((array / "zarr.json").read_text())
    chunk = document["codecs"][0]["configuration"]["chunk_shape"]
    return tuple(chunk), np.dtype(document["data_type"]).newbyteorder("<")


def encode(pixels: npt.NDArray, chunk: tuple[int, ...]) -> bytes:
    """Bytes of a shard: its inner chunks, then where each stands, then the checksum of that.

    References
    ----------
    https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
    """
    pieces: list[bytes] = []
    index: list[int] = []
    offset = 0
    for corner in _corners(pixels.shape, chunk):
        piece = pixels[tuple(slice(start, start + size) for start, size in zip(corner, chunk, strict=True))]
        short = [(0, size - own) for size, own in zip(chunk, piece.shape, strict=True)]
        whole = np.pad(piece, short) if any(missing for _, missing in short) else np.ascontiguousarray(piece)
        pieces.append(_BLOSC.encode(whole))
        index += [offset, len(pieces[-1])]
        offset += len(pieces[-1])
    table = struct.pack(f"<{len(index)}Q", *index)
    return b"".join([*pieces, table, struct.pack("<I", google_crc32c.value(table))])


def decode(
    shard: bytes, shape: list[int], chunk: tuple[int, ...], dtype: np.dtype, places: slice = slice(None)
) -> npt.NDArray:
    """Pixels of a shard of that shape; of its first axis all, or some places.

    Raises
    ------
    ValueError
        If the checksum of the index is not that of the index: the file is cut or damaged.
    """
    corners = list(_corners(shape, chunk))
    table = shard[-16 * len(corners) - 4 : -4]
    if len(shard) < 16 * len(corners) + 4 or struct.pack("<I", google_crc32c.value(table)) != shard[-4:]:
        msg = f"the index of a shard of {len(shard)} bytes is damaged; expected that of {len(corners)} chunks"
        raise ValueError(msg)
    pixels = np.zeros(shape, dtype)  # pages that no chunk is written to cost nothing
    wanted = range(*places.indices(shape[0]))
    for corner, (offset, length) in zip(corners, struct.iter_unpack("<2Q", table), strict=True):
        if offset == _ABSENT or not set(range(corner[0], corner[0] + chunk[0])) & set(wanted):
            continue
        piece = np.frombuffer(_BLOSC.decode(shard[offset : offset + length]), dtype).reshape(chunk)
        target = pixels[tuple(slice(start, start + size) for start, size in zip(corner, chunk, strict=True))]
        target[...] = piece[tuple(slice(size) for size in target.shape)]
    return pixels[places]


def _corners(shape: list[int] | tuple[int, ...], chunk: tuple[int, ...]):
    return product(*(range(0, size, step) for size, step in zip(shape, chunk, strict=True)))
