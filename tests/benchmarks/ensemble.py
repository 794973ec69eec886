"""Whether the disagreement of an ensemble tells of errors: rank correlation with the error that true masks show.

``python tests/benchmarks/ensemble.py [--images DIR --masks DIR]``; without folders, the validation split of the DSB
2018 nuclei is read. The error of an image is 1 - F1 of the default method against its mask, at an IoU of 0.5.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from segmentation import DATA, pair, read_image
from shipped import DEFAULTS, method_of
from skimage.io import imread

from plateline import metrics

# Beside the default method.
ENSEMBLES = [["otsu"], ["adaptive"], ["flow"], ["distance"], ["flow", "distance"], ["flow", "otsu"]]
WORST = 8


def main() -> None:
    """Print a line per ensemble, and the numbers of all in the last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=DATA / "images")
    parser.add_argument("--masks", type=Path, default=DATA / "masks")
    given = parser.parse_args()
    names = [DEFAULTS["method"], *dict.fromkeys(name for members in ENSEMBLES for name in members)]
    found, errors, methods = [], [], {name: method_of(name) for name in names}
    for image, mask in pair(given.images, given.masks):
        found.append({name: method(read_image(image))["nuclei"] for name, method in methods.items()})
        errors.append(metrics.disagreement([found[-1][names[0]], imread(mask).astype(np.int64)]))
    numbers, errors = [], np.array(errors)
    for members in ENSEMBLES:
        apart = np.array([metrics.disagreement([nuclei[name] for name in (names[0], *members)]) for nuclei in found])
        order, rho = np.argsort(-apart, kind="stable"), spearmanr(apart, errors)[0]
        worst, rest = errors[order[:WORST]].mean(), errors[order[WORST:]].mean()
        print(
            f"{names[0]} + {' + '.join(members):16} median {np.median(apart):.3f}, rank correlation {rho:.2f}; "
            f"error of the {WORST} it doubts most {worst:.3f}, of the others {rest:.3f}"
        )
        numbers.append(f"rho_{'_'.join(members)}={rho:.2f}")
    print(*numbers)


if __name__ == "__main__":
    main()
