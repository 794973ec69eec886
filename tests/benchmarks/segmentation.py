"""How well nuclei are found: AP and F1 of each method on images with true masks, and how fast.

``python tests/benchmarks/segmentation.py --images DIR --masks DIR [--method NAME ...]``; a file of the masks has the
name of its image, whatever their endings. Without folders, the validation split of the DSB 2018 nuclei is read; without
names, every method that needs nothing more than the clone is scored. Options are the defaults of the config.
"""

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from shipped import DEFAULTS, ROOT, method_of
from skimage.io import imread

from plateline import methods, metrics, segment
from plateline.compute.heap import keep_memory
from plateline.models import predict

DATA = Path(os.environ.get("PLATELINE_DATA", ROOT.parent / "shared" / "data")) / "dsb2018_fluo" / "val"
SHIPPED = [name for name, path in methods.SEGMENTERS.items() if not path.startswith("plateline.segment.plugins")]
SHOWN = ["ap50", "ap70", "ap90", "ap_mean", "f1_50", "f1_70", "f1_90"]
REPEATS = 3


def pair(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Image and mask files of one stem, sorted.

    Raises
    ------
    ValueError
        If a file has no partner, or two have one stem.
    """
    found = [{path.stem: path for path in folder.iterdir() if path.is_file()} for folder in (images, masks)]
    alone = sorted(set(found[0]) ^ set(found[1]))
    if alone or not found[0]:
        msg = f"{images} and {masks}: {len(alone)} files without a partner of the same stem, such as {alone[:3]}"
        raise ValueError(msg)
    return [(found[0][stem], found[1][stem]) for stem in sorted(found[0])]


def read_image(path: Path) -> np.ndarray:
    """An image as (1, Y, X) float32; of a colour image the mean of its first three channels."""
    image = imread(path).astype(np.float32)
    return (image[..., :3].mean(axis=-1) if image.ndim == 3 else image)[np.newaxis]


def strata(shapes: list[tuple[int, int]]) -> list[str]:
    """Size of each image as text, height x width."""
    return [f"{y:5d} x {x}" for y, x in shapes]


def run(method: Callable, images: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Nuclei of each image by a method, and its Mpx per second of CPU, the median of several rounds."""
    found = [method(image)["nuclei"] for image in images]  # compiles what is compiled on first use
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        for image in images:
            method(image)
        seconds.append(time.process_time() - start)
    return found, sum(image.size for image in images) / 1e6 / float(np.median(seconds))


def apart(name: str, images: list[np.ndarray]) -> str:
    """Mpx per second of CPU of the network alone, finding the scale included, and of the rest; of a network method."""
    spent = {"network": 0.0}
    maps_at = predict.maps_at

    def timed(*given):
        start = time.process_time()
        found = maps_at(*given)
        spent["network"] += time.process_time() - start
        return found

    predict.maps_at = timed
    start = time.process_time()
    try:
        for image in images:
            method_of(name)(image)
    finally:
        predict.maps_at = maps_at
    rest, mpx = time.process_time() - start - spent["network"], sum(image.size for image in images) / 1e6
    if not spent["network"]:
        return ""
    return f"; the network {mpx / spent['network']:.2f}, decoding and the rest {mpx / rest:.2f}"


def pace(name: str) -> str:
    """Mpx per second of CPU on one large field, nuclei at the network's own scale and of 30 px; of a network method."""
    if "model" not in DEFAULTS[name]:
        return ""
    field = read_image(next((ROOT / "resources" / "bbbc013" / "images").glob("Channel2-*-A-12.tif")))
    field = np.tile(field, (1, 3, 3))  # its nuclei are 15 px long
    rates = []
    for factor, size in ((1, 20), (2, 30)):
        image = np.repeat(np.repeat(field, factor, 1), factor, 2)
        method = partial(method_of(name), diameter_px=size)
        rates.append(run(method, [image])[1])
    return f"; a field of 3.7 Mpx at the own scale {rates[0]:.2f}, of 14.7 Mpx with nuclei of 30 px {rates[1]:.2f}"


def count(names: list[str], truths: list[np.ndarray], found: list[np.ndarray]) -> pd.DataFrame:
    """Counts of `metrics.match` over all images, with the stratum of each."""
    sizes = strata([truth.shape for truth in truths])
    tables = [
        metrics.match(truth, labels).assign(image=name, size=size)
        for name, truth, labels, size in zip(names, truths, found, sizes, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def show(title: str, scores: pd.DataFrame) -> None:
    """One line for the pooled scores, one for those averaged over images, each with its interval."""
    for over in ("pooled", "image"):
        cells = [
            f"{row.value:.3f} [{row.low:.3f} {row.high:.3f}]"
            for row in scores.loc[[f"{n}_{over}" for n in SHOWN]].itertuples()
        ]
        print(f"{title:<22}{over:<8}" + "".join(f"{cell:<23}" for cell in cells).rstrip())


def main() -> None:
    """Score the methods, print their tables, then the line of the default method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=DATA / "images")
    parser.add_argument("--masks", type=Path, default=DATA / "masks")
    parser.add_argument("--method", nargs="+", default=SHIPPED, choices=list(methods.SEGMENTERS))
    parser.add_argument("--pixel-size-um", type=float, default=float("nan"), help="for methods that ask for lengths")
    given = parser.parse_args()
    files = pair(given.images, given.masks)
    images, truths = [read_image(image) for image, _ in files], [imread(mask) for _, mask in files]
    default, last = DEFAULTS["method"], ""
    keep_memory()  # as jobs do
    print(
        f"{len(files)} images, {sum(segment.count(truth) for truth in truths)} objects; intervals of 95 % over images"
    )
    print(f"{'':<30}" + "".join(f"{name:<23}" for name in SHOWN).rstrip())
    for name in dict.fromkeys([*given.method, default]):
        found, speed = run(method_of(name, given.pixel_size_um), images)
        counts = count([image.stem for image, _ in files], truths, found)
        scores = metrics.scores(counts)
        print(f"-- {name}: {speed:.2f} Mpx/s of CPU, one thread{apart(name, images)}{pace(name)}")
        show("all", scores)
        for size, of_size in metrics.scores_by(counts, "size").groupby("size"):
            show(f"{size} (n={of_size['images'].iloc[0]})", of_size)
        value = scores["value"]
        if name == default:
            wanted = ("ap50_pooled", "ap50_image", "ap_mean_image")
            last = " ".join(f"{score}={value[score]:.3f}" for score in wanted) + f" mpx_s={speed:.2f}"
    print(last)


if __name__ == "__main__":
    main()
