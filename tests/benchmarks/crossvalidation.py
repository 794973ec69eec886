"""What a network method is worth on sources of images that it was never trained on.

``python tests/benchmarks/crossvalidation.py --models DIR [--method NAME] [--transfer]``. The training split of the
DSB 2018 nuclei is dealt into folds, whole sources together (`groups.sources`); each fold is scored by a network that
was trained on the others. The folder of `--models` holds `fold0.safetensors`, ... as ``segment_fit_screen`` made them
with ``folds`` and ``fold`` set; one that is not there is trained and kept there, which wants a GPU. The weights of the
last step are taken, so that the held-out images choose nothing. The worst stratum is that among sizes of ten images or
more. With `--transfer` all images of the commonest size are held out at once (`transfer.safetensors`): other
microscopes; the tables by fold then stand beside those of the networks of the folds.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from segmentation import show, strata
from shipped import DEFAULTS, ROOT

from plateline import metrics, store
from plateline.errors import ModelError
from plateline.models import training
from plateline.models.fit import TARGETS, fit

DATA = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "dsb2018_fluo" / "train"
DIAMETERS_PX = (0, 12, 24, np.inf)


def folds_of(pairs: list[dict], source: np.ndarray, count: int) -> np.ndarray:
    """The fold (N,) of each image, as a training with ``folds`` has them."""
    held_out = [training.hold_out(pairs, source, folds=count, fold=number, seed=0) for number in range(count)]
    return np.argmax(held_out, axis=0)


def parts_of(
    pairs: list[dict], source: np.ndarray, fold: np.ndarray, given: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Which images each network is scored on and has not seen, by its name."""
    if not given.transfer:
        return {f"fold{n}": fold == n for n in given.only or range(given.folds)}
    sizes = pd.Series([pair["image"].shape for pair in pairs])
    return {"transfer": np.isin(source, source[sizes == sizes.mode()[0]])}


def weights_of(
    name: str, pairs: list[dict], source: np.ndarray, held_out: np.ndarray, given: argparse.Namespace
) -> dict:
    """Weights of a network that has not seen the images it is scored on, from its file or trained into it.

    Raises
    ------
    ModelError
        If the file is one of another method.
    """
    path = given.models / f"{name}.safetensors"
    if not path.exists():
        given.models.mkdir(parents=True, exist_ok=True)
        card = {"method": given.method, "diameter_px": DEFAULTS["fit"]["diameter_px"]}
        store.save_model(train(pairs, source, held_out, given), card, path)
    model = store.read_model(str(path))
    if model["card"]["method"] != given.method:
        msg = f"{path} is a model of {model['card']['method']}; expected {given.method}: name another folder"
        raise ModelError(msg)
    return model["arrays"]


def train(pairs: list[dict], source: np.ndarray, held_out: np.ndarray, given: argparse.Namespace) -> dict:
    """Weights of the last step of a training on the images that are not held out."""
    section = DEFAULTS["fit"] | {"steps": given.steps, "check_steps": given.steps, "batch": given.batch}
    images, labels = [pair["image"] for pair in pairs], [pair["labels"] for pair in pairs]
    about = {"source": source, "method": given.method, "recipe": training.recipe_of(section)}
    return list(fit(images, labels, held_out, **about, begin={}))[-1].weights


def diameter_px(labels: np.ndarray) -> float:
    """Median diameter of the nuclei of an image."""
    areas = np.bincount(labels.ravel())[1:]
    return float(np.sqrt(4 / np.pi * np.median(areas[areas > 0])))


def parts_by_name(pairs: list[dict], fold: np.ndarray) -> pd.DataFrame:
    """What each image is counted under, by its name: ``fold``, ``size`` and ``nuclei``, as text."""
    columns = {
        "fold": [f"fold {number}" for number in fold],
        "size": strata([pair["image"].shape for pair in pairs]),
        "nuclei": pd.cut([diameter_px(pair["labels"]) for pair in pairs], DIAMETERS_PX).astype(str) + " px",
    }
    return pd.DataFrame(columns, [pair["name"] for pair in pairs])


def main() -> None:
    """Score every part, print the tables, then the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default=str(DATA / "images"))
    parser.add_argument("--masks", default=str(DATA / "masks"))
    parser.add_argument("--method", default=DEFAULTS["method"], choices=list(TARGETS))
    parser.add_argument("--models", type=Path, required=True, help="folder of the networks, and of those trained here")
    parser.add_argument("--folds", type=int, default=3)
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--only", type=int, nargs="+", help="folds to score; all of them if not given")
    parts.add_argument("--transfer", action="store_true", help="hold out the commonest size instead of folds")
    parser.add_argument("--steps", type=int, default=3300)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    pairs, _ = store.read_pairs(given.images, given.masks)
    source = training.sources(pairs)
    fold, tables = folds_of(pairs, source, given.folds), []
    for name, held_out in parts_of(pairs, source, fold, given).items():
        arrays = weights_of(name, pairs, source, held_out, given)
        judges = [pair for pair, out in zip(pairs, held_out, strict=True) if out]
        size = DEFAULTS["fit"]["diameter_px"]
        tables.append(training.score(arrays, judges, method=given.method, diameter_px=size))
    counts = pd.concat(tables, ignore_index=True).join(parts_by_name(pairs, fold), on="image")
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
