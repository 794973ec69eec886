"""Keys that chain what a result rests on, and checksums of the pixels written."""

import hashlib
import json

import numpy as np
import numpy.typing as npt


def chain(section: dict, code: str, *inputs: str) -> str:
    """Key of a result: its section, its code, and the keys or checksums of all it was made from.

    Returns
    -------
    str
        32 hexadecimal digits of a sha256; equal exactly when all parts are equal, in order.
    """
    text = json.dumps([section, code, *inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def checksum(*arrays: npt.NDArray) -> str:
    """sha256 of the arrays' dtype, shape and bytes, 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
