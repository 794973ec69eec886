"""What a network method is worth on sources of images that it was never trained on.

``python tests/benchmarks/crossvalidation.py [--method NAME] [--models DIR] [--transfer]``. The training split of the
DSB 2018 nuclei is dealt into folds, whole sources together (`groups.sources`); each fold is scored by a network that
was trained on the others. With `--models`, that folder holds `fold0.safetensors`, ... as ``segment_fit_screen`` made
them with ``folds`` and ``fold`` set, and only the scoring is done; else each is trained here, which wants a GPU. The
weights of the last step are taken, so that the held-out images choose nothing. The worst stratum is that among sizes of
ten images or more. With `--transfer` all images of the commonest size are held out at once (`transfer.safetensors`):
other microscopes.
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


def parts_of(pairs: list[dict], given: argparse.Namespace) -> dict[str, np.ndarray]:
    """Which images each network is scored on and has not seen, by its name."""
    source = training.sources(pairs)
    if not given.transfer:
        folds = given.only or range(given.folds)
        return {f"fold{n}": training.hold_out(pairs, source, folds=given.folds, fold=n, seed=0) for n in folds}
    sizes = pd.Series([pair["image"].shape for pair in pairs])
    return {"transfer": np.isin(source, source[sizes == sizes.mode()[0]])}


def weights_of(name: str, pairs: list[dict], held_out: np.ndarray, given: argparse.Namespace) -> dict:
    """Weights of a network that has not seen the images it is scored on."""
    if given.models:
        return store.read_model(str(given.models / f"{name}.safetensors"))["arrays"]
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
    """Score every part, print the tables, then the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=str(DATA / "images"))
    parser.add_argument("--masks", default=str(DATA / "masks"))
    parser.add_argument("--method", default=DEFAULTS["method"], choices=list(TARGETS))
    parser.add_argument("--models", type=Path)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--only", type=int, nargs="+", help="folds to score; all of them if not given")
    parser.add_argument("--transfer", action="store_true", help="hold out the commonest size instead of folds")
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    pairs, _ = store.read_pairs(given.images, given.masks)
    tables = []
    for name, held_out in parts_of(pairs, given).items():
        arrays = weights_of(name, pairs, held_out, given)
        judges = [pair for pair, out in zip(pairs, held_out, strict=True) if out]
        size = DEFAULTS["fit"]["diameter_px"]
        tables.append(training.score(arrays, judges, method=given.method, diameter_px=size).assign(fold=name))
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
