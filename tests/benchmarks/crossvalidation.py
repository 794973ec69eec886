"""What a network method is worth on sources of images that it was never trained on.

``python tests/benchmarks/crossvalidation.py [--method NAME] [--models DIR]``. The training split of the DSB 2018 nuclei
is dealt into folds, whole sources together (`groups.sources`); each fold is scored by a network that was trained on the
others. With `--models`, that folder holds `fold0.safetensors`, ... as ``segment_fit_screen`` made them with ``folds``
and ``fold`` set, and only the scoring is done; else each is trained here, which wants a GPU. The weights of the last
step are taken, so that the held-out images choose nothing. The worst stratum is that among sizes of ten images or more.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from segmentation import show
from shipped import DEFAULTS, ROOT

from plateline import metrics, store
from plateline.models import training
from plateline.models.fit import TARGETS, fit

DATA = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "dsb2018_fluo" / "train"
DIAMETERS_PX = (0, 12, 24, np.inf)


def weights_of(fold: int, pairs: list[dict], held_out: np.ndarray, given: argparse.Namespace) -> dict:
    """Weights of a network that has not seen a fold."""
    if given.models:
        return store.read_model(str(given.models / f"fold{fold}.safetensors"))["arrays"]
    section = DEFAULTS["fit"] | {"steps": given.steps, "check_steps": given.steps, "batch": given.batch}
    images, labels = [pair["image"] for pair in pairs], [pair["labels"] for pair in pairs]
    about = {"source": training.sources(pairs), "method": given.method, "recipe": training.recipe_of(section)}
    checks = fit(images, labels, held_out, **about, begin={})
    return list(checks)[-1].weights


def diameter_px(labels: np.ndarray) -> float:
    """Median diameter of the nuclei of an image."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.sqrt(4 / np.pi * np.median(areas[areas > 0])))


def main() -> None:
    """Score every fold, print the tables, then the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=str(DATA / "images"))
    parser.add_argument("--masks", default=str(DATA / "masks"))
    parser.add_argument("--method", default=DEFAULTS["method"], choices=list(TARGETS))
    parser.add_argument("--models", type=Path)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="+", help="folds to score; all of them if not given")
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    pairs, _ = store.read_pairs(given.images, given.masks)
    tables = []
    for fold in given.only or range(given.folds):
        held_out = training.hold_out(pairs, training.sources(pairs), folds=given.folds, fold=fold, seed=0)
        arrays = weights_of(fold, pairs, held_out, given)
        judges = [pair for pair, out in zip(pairs, held_out, strict=True) if out]
        size = DEFAULTS["fit"]["diameter_px"]
        tables.append(training.score(arrays, judges, method=given.method, diameter_px=size).assign(fold=f"fold {fold}"))
    counts = pd.concat(tables, ignore_index=True)
    sizes = {pair["name"]: f"{pair['image'].shape[0]:5d} x {pair['image'].shape[1]}" for pair in pairs}
    nuclei = pd.Series({pair["name"]: diameter_px(pair["labels"]) for pair in pairs})
    counts["size"] = counts["image"].map(sizes)
    counts["nuclei"] = pd.cut(counts["image"].map(nuclei), DIAMETERS_PX).astype(str) + " px"
    scores = metrics.scores(counts)
    show("all", scores)
    worst = 1.0
    for column in ("fold", "size", "nuclei"):
        for name, of_part in metrics.scores_by(counts, column).groupby(column):
            show(f"{name} (n={of_part['images'].iloc[0]})", of_part)
            if column == "size" and of_part["images"].iloc[0] >= 10:
                worst = min(worst, of_part.loc["ap50_image", "value"])
    wanted = ("ap50_pooled", "ap50_image", "ap_mean_image")
    print(" ".join(f"{score}={scores.loc[score, 'value']:.3f}" for score in wanted) + f" worst_stratum={worst:.3f}")


if __name__ == "__main__":
    main()
