"""Segmenters of other packages, for those who have them: Cellpose, StarDist and InstanSeg.

Owns nothing but the way in and out: the package is loaded when its method is named, not before, and none is a
dependency. Their weights are fetched by the packages themselves, or named by their path.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from plateline.errors import ConfigError
from plateline.segment.labels import check_image, number_objects

Pixels = npt.NDArray[np.float32]


def cellpose(
    image: Pixels, *, pretrained: str, diameter_px: float, flow_threshold: float, cellprob_threshold: float
) -> dict[str, npt.NDArray]:
    """Nuclei by Cellpose, with its probability as confidence.

    Parameters
    ----------
    image : (C, Y, X) float32
        ``image[0]`` stains nuclei; further channels are not looked at.
    pretrained : str
        Name of one of the package's models, such as ``cpsam`` (version 4) or ``nuclei`` (version 3), or a file.
    diameter_px : float
        Usual diameter of a nucleus, in pixels; 0 leaves it to the package.
    flow_threshold : float
        Largest error of the flows of an object; smaller is stricter.
    cellprob_threshold : float
        Smallest logit of a pixel of an object.

    Returns
    -------
    dict of str to (Y, X) array
        ``nuclei`` int32 and ``confidence`` float32.

    Raises
    ------
    ConfigError
        If the package is not installed.
    ImageError
        If the image is not (C, Y, X), or holds pixels that are not finite.

    References
    ----------
    Stringer et al. 2021, doi:10.1038/s41592-020-01018-x.
    """
    check_image(image)
    masks, flows, *_ = _cellpose(pretrained).eval(
        image[0],
        diameter=diameter_px or None,
        flow_threshold=flow_threshold,
        cellprob_threshold=cellprob_threshold,
    )
    logits = np.clip(np.asarray(flows[2], np.float32), -30, 30)
    return {"nuclei": number_objects(np.asarray(masks).astype(np.int32)), "confidence": 1 / (1 + np.exp(-logits))}


@cache
def _cellpose(pretrained: str):
    """Cellpose's model of that name, loaded once per process, on the GPU where it finds one."""
    try:
        from cellpose import core, models
    except ImportError as error:
        msg = _how_to_install("cellpose", "cellpose")
        raise ConfigError(msg) from error
    return models.CellposeModel(gpu=core.use_gpu(), pretrained_model=pretrained)


def stardist_plugin(
    image: Pixels, *, pretrained: str, scale: float, probability: float, overlap: float
) -> dict[str, npt.NDArray]:
    """Nuclei by the package StarDist, with its probability as confidence.

    Parameters
    ----------
    image : (C, Y, X) float32
        ``image[0]`` stains nuclei; further channels are not looked at.
    pretrained : str
        Name of one of the package's models, such as ``2D_versatile_fluo``.
    scale : float
        Factor by which the image is enlarged first, above 0.
    probability, overlap : float
        Smallest probability of an object and largest overlap of two, 0 to 1; 0 takes the model's own.

    Returns
    -------
    dict of str to (Y, X) array
        ``nuclei`` int32 and ``confidence`` float32.

    Raises
    ------
    ConfigError
        If the package is not installed.
    ImageError
        If the image is not (C, Y, X), or holds pixels that are not finite.

    References
    ----------
    Schmidt et al. 2018, doi:10.1007/978-3-030-00934-2_30.
    """
    check_image(image)
    low, high = np.percentile(image[0], (1, 99.8))
    labels, details = _stardist(pretrained).predict_instances(
        ((image[0] - low) / max(high - low, np.finfo(np.float32).tiny)).astype(np.float32),
        scale=scale,
        prob_thresh=probability or None,
        nms_thresh=overlap or None,
    )
    labels = np.asarray(labels).astype(np.int32)
    sure = np.append(0, np.asarray(details["prob"], np.float32)).clip(0, 1)
    return {"nuclei": number_objects(labels), "confidence": sure[labels].astype(np.float32)}


@cache
def _stardist(pretrained: str):
    """StarDist's model of that name, loaded once per process."""
    try:
        from stardist.models import StarDist2D
    except ImportError as error:
        msg = _how_to_install("stardist_plugin", "stardist tensorflow")
        raise ConfigError(msg) from error
    return StarDist2D.from_pretrained(pretrained)


def instanseg(image: Pixels, *, pretrained: str, own_pixel_px: float) -> dict[str, npt.NDArray]:
    """Nuclei, and where the model has them cells, by InstanSeg.

    Parameters
    ----------
    image : (C, Y, X) float32
        All channels are looked at, in any order.
    pretrained : str
        Name of one of the package's models, such as ``fluorescence_nuclei_and_cells``.
    own_pixel_px : float
        Side of a pixel of the images the model was trained on, in pixels of this image, to which it is rescaled; 0
        leaves it as it is.

    Returns
    -------
    dict of str to (Y, X) int32
        ``nuclei``; ``cells`` with the same numbers. A nucleus that the package gives no cell is its own cell; a cell
        without nucleus is left out.

    Raises
    ------
    ConfigError
        If the package is not installed.
    ImageError
        If the image is not (C, Y, X), or holds pixels that are not finite.

    References
    ----------
    Goldsborough et al. 2024, doi:10.1101/2024.09.04.611150.
    """
    check_image(image)
    model = _instanseg(pretrained)
    size_um = model.instanseg.pixel_size / own_pixel_px if own_pixel_px else None
    found = model.eval_small_image(image, pixel_size=size_um, return_image_tensor=False)
    planes = np.asarray(found).reshape(-1, *image.shape[1:]).astype(np.int32)
    if len(planes) == 1:
        return {"nuclei": number_objects(planes[0])}
    nuclei, cells = planes[:2]
    cells = np.where(np.isin(cells, nuclei), cells, 0)
    cells = np.where((nuclei > 0) & ~np.isin(nuclei, cells), nuclei, cells)
    return {"nuclei": nuclei, "cells": cells}


@cache
def _instanseg(pretrained: str):
    """InstanSeg's model of that name, loaded once per process."""
    try:
        from instanseg import InstanSeg
    except ImportError as error:
        msg = _how_to_install("instanseg", "instanseg-torch")
        raise ConfigError(msg) from error
    return InstanSeg(pretrained, verbosity=0)


def _how_to_install(method: str, packages: str) -> str:
    """What to do about a package that is not there."""
    return (
        f"segment.method is {method!r}, whose package is not installed; expected it beside Plateline: "
        f"pip install {packages}, in the environment that runs segment_part; or choose another method"
    )
