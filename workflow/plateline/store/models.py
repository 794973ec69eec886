"""Model files: weights as safetensors with their card, training sets, and the state of a training."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from plateline.config import is_plate
from plateline.errors import ModelError
from plateline.store.files import write_whole
from plateline.store.keys import checksum
from plateline.store.painted import read_painted

_NEXT = "give the file that the rule segment_fit_screen wrote, or leave the option `model` empty for the shipped one"


def save_model(arrays: dict[str, npt.NDArray], card: dict, path: str | Path) -> None:
    """Save weights and their card in one safetensors file, and the card as JSON beside it.

    Parameters
    ----------
    arrays : dict of str to arrays
        Weights by name.
    card : dict
        What a user must know of them; `checksum` of the weights is added.
    path : str or Path
        Ends in `.safetensors`; the card takes the ending `.json`.
    """
    card = card | {"checksum": _checksum(arrays)}
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, lambda file: file.write_bytes(save(packed, {"card": json.dumps(card)})))
    write_whole(Path(path).with_suffix(".json"), lambda file: file.write_text(json.dumps(card, indent=1) + "\n"))


@cache
def read_model(path: str) -> dict:
    """Weights and card of a model file; read once per process.

    Returns
    -------
    dict
        `arrays` (dict of str to arrays), `card` (dict) and `checksum` (of the weights).

    Raises
    ------
    ModelError
        If it is no safetensors file, has no card, or its weights are not those of the card.
    """
    try:
        with safe_open(path, "numpy") as file:
            metadata, arrays = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        msg = f"model {path} cannot be read ({error}); expected a safetensors file; {_NEXT}"
        raise ModelError(msg) from error
    if "card" not in metadata:
        msg = f"model {path} has no card in its metadata; {_NEXT}"
        raise ModelError(msg)
    card = json.loads(metadata["card"])
    if card["checksum"] != _checksum(arrays):
        msg = f"model {path}: weights have checksum {_checksum(arrays)}; its card says {card['checksum']}; {_NEXT}"
        raise ModelError(msg)
    return {"arrays": arrays, "card": card, "checksum": card["checksum"]}


def _checksum(arrays: dict[str, npt.NDArray]) -> str:
    return checksum(*(arrays[name] for name in sorted(arrays)))


def save_state(arrays: dict[str, npt.NDArray], key: str, path: str | Path) -> None:
    """Save the state of a training under the key of what it trains on."""
    packed = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(path, lambda file: file.write_bytes(save(packed, {"key": key})))


def read_state(path: str | Path, key: str) -> dict[str, npt.NDArray]:
    """State of a training that was killed; empty if there is none, or it was of other data or settings."""
    if not Path(path).is_file():
        return {}
    with safe_open(path, "numpy") as file:
        same = (file.metadata() or {}).get("key") == key
        return {name: file.get_tensor(name) for name in file.keys()} if same else {}  # noqa: SIM118


def drop_state(path: str | Path) -> None:
    """Delete the state of a training that came to its end."""
    Path(path).unlink(missing_ok=True)


def read_pairs(images: str, masks: str) -> tuple[list[dict], list[dict]]:
    """Training images and their label masks: TIFF files of the same stem in two folders.

    Parameters
    ----------
    images, masks : str
        Folders of `.tif` or `.tiff` files, an image (Y, X) and a mask (Y, X) of integers, 0 background.

    Returns
    -------
    pairs : list of dict
        `name`, `image`, `labels` (int32), sorted by name.
    left_out : list of dict
        `name` and `reason` of every file that is not in a pair, or whose mask is empty or of another shape.

    Raises
    ------
    ModelError
        If no pair is left.
    """
    files = [{path.stem: path for path in Path(folder).glob("*.tif*")} for folder in (images, masks)]
    pairs, left_out = [], []
    for name in sorted({*files[0], *files[1]}):
        pair, reason = _pair(files[0].get(name), files[1].get(name))
        left_out += [{"name": name, "reason": reason}] if reason else []
        pairs += [] if reason else [{"name": name} | pair]
    if not pairs:
        reasons = sorted({row["reason"] for row in left_out})
        msg = f"no training image in {images} with a mask in {masks}: {'; '.join(reasons) or 'no TIFF file'}"
        raise ModelError(msg)
    return pairs, left_out


def read_training(images: str, masks: str, channel: str) -> tuple[list[dict], list[dict]]:
    """Training set of the config: `read_painted` where the images are an OME-Zarr plate, else `read_pairs`."""
    return read_painted(images, masks, channel) if is_plate(images) else read_pairs(images, masks)


def _pair(image: Path | None, mask: Path | None) -> tuple[dict, str]:
    """Image and labels, or why they are no pair."""
    if image is None or mask is None:
        return {}, "image without a mask" if mask is None else "mask without an image"
    pixels, labels = tifffile.imread(image), tifffile.imread(mask)
    if pixels.shape != labels.shape or pixels.ndim != 2:
        return {}, f"image of shape {pixels.shape} with a mask of shape {labels.shape}; expected two equal sides"
    if not np.issubdtype(labels.dtype, np.integer):
        return {}, f"mask of dtype {labels.dtype}; expected integers"
    if not labels.any():
        return {}, "empty mask"
    return {"image": pixels, "labels": labels.astype(np.int32)}, ""
