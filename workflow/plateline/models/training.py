"""What surrounds a training: which images judge it, what it is worth before and after, and the card of its model."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline import metrics
from plateline.models import groups, room
from plateline.models.fit import TARGETS, Recipe
from plateline.models.keep import kept
from plateline.models.loss import Foreground
from plateline.models.predict import find, prepare

# As the methods have it by default.
_MIN_SHARE = 0.15


def recipe_of(section: dict) -> Recipe:
    """The recipe in the block `segment.fit` of the config."""
    foreground = Foreground(**{key: section[key] for key in Foreground._fields})
    return Recipe(**{key: section[key] for key in Recipe._fields if key != "foreground"}, foreground=foreground)


def sources(pairs: Sequence[dict]) -> npt.NDArray[np.int64]:
    """Groups (N,) of images that are never parted: those of one source, as `groups.sources` finds them.

    Images of a plate are all of one source: there, where every pair has its `well`, a group is a well.
    """
    wells = [pair.get("well", "") for pair in pairs]
    if all(wells):
        return np.unique(wells, return_inverse=True)[1].astype(np.int64)
    return groups.sources([pair["image"] for pair in pairs], [pair["labels"] for pair in pairs])


def hold_out(pairs: Sequence[dict], source: npt.NDArray[np.int64], *, folds: int, fold: int, seed: int) -> npt.NDArray:
    """Images (N,) bool of one of several folds of whole sources: what judges a training and is never trained on."""
    return groups.folds(source, [pair["image"].shape for pair in pairs], count=folds, seed=seed) == fold


def score(arrays: dict[str, npt.NDArray], pairs: Sequence[dict], *, method: str, diameter_px: float) -> pd.DataFrame:
    """Objects found, invented and missed in images by a network, with the usual options of its decoder.

    Parameters
    ----------
    arrays : dict of str to arrays
        Weights.
    pairs : sequence of dict
        `name`, `image` (Y, X) and `labels` (Y, X).
    method : str
        A key of `fit.TARGETS`.
    diameter_px : float
        The network's own scale.

    Returns
    -------
    pd.DataFrame
        As `metrics.match`, with ``image`` (name) and ``side`` (the longer one, pixels).
    """
    target = TARGETS[method]
    device = room.device()
    trained = prepare(arrays, target, diameter_px=diameter_px, device=device)
    decode = partial(target.decode, **target.options)
    tables = []
    for pair in pairs:
        labels, confidence, size = find(pair["image"].astype(np.float32), trained, decode, diameter_px=0, mirrors=0)
        found = kept(labels, confidence, _MIN_SHARE * np.pi / 4 * size**2, target.least)
        table = metrics.match(pair["labels"], found)
        tables.append(table.assign(image=pair["name"], side=max(pair["image"].shape)))
    return pd.concat(tables, ignore_index=True)


def card(section: dict, pairs: Sequence[dict], held_out: npt.NDArray[np.bool_], after: pd.DataFrame) -> dict:
    """What a user must know of a model: its method, scale, data, how it was made, and what it is worth.

    Parameters
    ----------
    section : dict
        The block `segment.fit` it was trained by.
    pairs : sequence of dict
        All images it had.
    held_out : (N,) bool
        Those that judged it.
    after : pd.DataFrame
        Its `score` on these.
    """
    recipe = recipe_of(section)
    at_half = after[after["threshold"] == 0.5]
    used = [pair for pair, out in zip(pairs, held_out, strict=True) if not out]
    return {
        "method": section["method"],
        "diameter_px": recipe.diameter_px,
        "channels": 1,
        "stains": section["stains"],
        "modalities": section["modalities"],
        "data": section["data"],
        "images": len(used),
        "nuclei": int(sum(np.count_nonzero(np.unique(pair["labels"])) for pair in used)),
        "held_out_images": int(held_out.sum()),
        "held_out_ap50": round(float(metrics.average_precision(at_half).mean()), 4),
        "held_out_ap_mean": round(float(metrics.average_precision(after).groupby(after["image"]).mean().mean()), 4),
        "command": "snakemake --cores all results/segment/model.safetensors",
        "config": {"segment": {"fit": section}},
    }
