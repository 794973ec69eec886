"""One field through a method: what the workflow, the preview and the benchmarks do alike."""

import math
from collections.abc import Callable, Mapping
from inspect import signature

import numpy as np
import numpy.typing as npt

from plateline.errors import ConfigError, ModelError
from plateline.metrics import disagreement
from plateline.segment.cells import complete
from plateline.segment.labels import check_image, check_labels


def segment_field(
    image: npt.NDArray[np.float32], method: Callable[..., dict[str, npt.NDArray]], *, cells: dict, where: str
) -> dict[str, npt.NDArray]:
    """Label images of one field: the method's, checked, with the compartments it does not give.

    Parameters
    ----------
    image : (C, Y, X) float32
        The nuclei channel, then the cell channels.
    method : callable
        A segmenter with its options: image -> {compartment: (Y, X) integer}, as `check_labels` says.
    cells : dict
        Keywords of `complete`, the block `segment.cells` of the config.
    where : str
        Names method, plate and well in messages.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``, ``cells``, ``cytoplasm``; and ``confidence``, float32 from 0 to 1, where the method gives it.

    Raises
    ------
    ImageError
        If the image is not (C, Y, X), or holds pixels that are not finite.
    LabelError
        If the method breaks its contract.
    """
    check_image(image)
    return complete(check_labels(method(image), image.shape[1:], where=where), image, **cells)


def compare_nuclei(
    image: npt.NDArray[np.float32], nuclei: npt.NDArray[np.int32], members: Mapping[str, Callable], *, where: str
) -> float:
    """Disagreement of an ensemble on one field, as `plateline.metrics.disagreement` defines it.

    Parameters
    ----------
    image : (C, Y, X) float32
        What `segment_field` was given.
    nuclei : (Y, X) int32
        What it found.
    members : mapping of str to callable
        Further segmenters with their options by name, of which the nuclei alone count.
    where : str
        Names plate and well in messages.

    Returns
    -------
    float
        0 to 1; NaN without members.

    Raises
    ------
    LabelError
        If a member breaks the contract of segmenters.
    """
    shape = image.shape[1:]
    others = [check_labels(find(image), shape, where=f"{name}, {where}") for name, find in members.items()]
    return disagreement([nuclei, *(labels["nuclei"] for labels in others)])


def options_of(method: Callable, section: dict, model: dict | None) -> dict:
    """What the config says of a method, as the method takes it, but for lengths, which `in_pixels` converts.

    Parameters
    ----------
    method : callable
        A segmenter.
    section : dict
        The section of `segment_part`: `options`, `tile_px`, `modality`.
    model : dict or None
        Weights and card of its network, as `store.read_model` gives them; None for a method without one.

    Raises
    ------
    ConfigError
        If there are tiles, and the method knows none.
    ModelError
        If the card of the model does not list the modality.
    """
    options = with_tiles(method, section["options"], section["tile_px"])
    if model is None:
        return options
    known = model["card"]["modalities"]
    if section["modality"] not in known:
        msg = (
            f"segment.modality is {section['modality']}, but the model of {method.__name__} was trained on "
            f"{', '.join(known)}; train one on such images (segment.fit), or choose another method"
        )
        raise ModelError(msg)
    return options | {"model": model}


def in_pixels(options: dict, pixel_size_um: float, *, where: str) -> dict:
    """Options of a method with lengths in pixels: `diameter_um` becomes `diameter_px`.

    Parameters
    ----------
    options : dict
        A key that ends in ``_um`` is a length in micrometres; 0 stays 0, the method's word for its own estimate.
    pixel_size_um : float
        Side of a pixel, NaN where the source does not tell.
    where : str
        Names the plate in messages.

    Raises
    ------
    ConfigError
        If a length other than 0 is given and the size of a pixel is not known.

    Examples
    --------
    >>> in_pixels({"diameter_um": 13.0, "seed": 0}, 0.65, where="plate P1")
    {'diameter_px': 20.0, 'seed': 0}
    """
    return dict(_in_pixels(key, value, pixel_size_um, where) for key, value in options.items())


def with_tiles(method: Callable, options: dict, tile_px: int) -> dict:
    """Options of a method with the size of its tiles, where a field is to be cut.

    Parameters
    ----------
    method : callable
        A segmenter; one that can work in tiles has the keyword `tile_px`.
    options : dict
        Its own options.
    tile_px : int
        The key `segment.tile_px` of the config; 0 leaves the options as they are.

    Raises
    ------
    ConfigError
        If there are tiles, and the method knows none.
    """
    if tile_px == 0:
        return options
    if "tile_px" not in signature(method).parameters:
        msg = f"segment.tile_px is {tile_px}, but {method.__name__} works on whole fields; expected 0 for this method"
        raise ConfigError(msg)
    return options | {"tile_px": tile_px}


def _in_pixels(key: str, value, pixel_size_um: float, where: str) -> tuple[str, object]:
    """One option, as `in_pixels` gives it."""
    if not key.endswith("_um"):
        return key, value
    if value and not (math.isfinite(pixel_size_um) and pixel_size_um > 0):
        msg = (
            f"segment: {key} is {value}, but {where} has no pixel size; expected one in its metadata; set "
            f"ingest.plate.pixel_size_um, or {key} to 0"
        )
        raise ConfigError(msg)
    return key.removesuffix("_um") + "_px", value / pixel_size_um if value else value
