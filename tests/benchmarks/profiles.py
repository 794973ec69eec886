"""Speed of the profile methods against their peers, on seeded data, one thread, in one run.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/profiles.py

mAP on 2400 profiles of 512 features against copairs. CPU-seconds, median of several runs. The last line prints the
figures as `name=value`.
"""

import logging
import os
import tempfile
import time
from statistics import median

import numpy as np
import pandas as pd

from plateline.hits.precision import average_precision, mean_average_precision

WELLS, FEATURES, REPLICATES, CONTROLS = 2400, 512, 5, 400


def cpu_seconds(function, repeats):
    """Median CPU-seconds of a call, and what it returned last."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        found = function()
        times.append(time.process_time() - start)
    return median(times), found


def screen(seed=0):
    """Treatments with five replicates and controls on six plates; half the treatments do something."""
    rng = np.random.default_rng(seed)
    treated = WELLS - CONTROLS
    treatment = np.concatenate([np.arange(treated) // REPLICATES, np.full(CONTROLS, -1)])
    effects = rng.normal(size=(treated // REPLICATES, FEATURES)) * (np.arange(treated // REPLICATES) % 2)[:, None]
    values = rng.normal(size=(WELLS, FEATURES))
    values[:treated] += 0.3 * effects[treatment[:treated]]
    return values, treatment, rng.integers(6, size=WELLS)


def ours(values, treatment, plates, question):
    rivals = treatment < 0 if question == "controls" else None
    blocks = plates if question == "controls" else None
    found = average_precision(values, treatment, rivals=rivals, blocks=blocks)
    return mean_average_precision(found, pd.Series(treatment), n_null=10_000, seed=0)


def theirs(values, treatment, plates, question):
    from copairs import map as copairs

    meta = pd.DataFrame({"treatment": treatment, "plate": plates, "control": treatment < 0})
    rules = {"pos_sameby": ["treatment"], "pos_diffby": [], "neg_sameby": [], "neg_diffby": ["treatment"]}
    if question == "controls":
        # Controls are no replicates of each other: each is a treatment of its own.
        meta["treatment"] = meta["treatment"].where(~meta["control"], -1 - np.arange(WELLS))
        rules |= {"neg_sameby": ["plate"], "neg_diffby": ["control"]}
    else:
        meta, values = meta[~meta["control"]], values[treatment >= 0]
    found = copairs.average_precision(meta, values, **rules, progress_bar=False)
    found = found[~found["control"]]
    with tempfile.TemporaryDirectory() as cache:  # or a second run would read the first one's null
        return copairs.mean_average_precision(
            found, ["treatment"], null_size=10_000, threshold=0.05, seed=0, progress_bar=False, cache_dir=cache
        )


def compare_map():
    """CPU-seconds of theirs over ours for both questions, and the largest difference of a mAP."""
    data, ratios, differences = screen(), [], []
    for question in ("controls", "non-replicates"):
        own, found = cpu_seconds(lambda question=question: ours(*data, question), 5)
        other, reference = cpu_seconds(lambda question=question: theirs(*data, question), 1)
        reference = reference.set_index("treatment")
        difference = float((found["map"] - reference["mean_average_precision"]).abs().max())
        p = float((found["p"] - reference["p_value"]).abs().max())
        print(
            f"mAP against {question}: ours {own:.2f} s, copairs {other:.2f} s, {other / own:.1f}x; largest difference"
        )
        print(f"  of mAP {difference:.1e}, of p {p:.3f} (both draw their null)")
        ratios.append(other / own)
        differences.append(difference)
    return min(ratios), max(differences)


def main():
    logging.disable(logging.INFO)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("OMP_NUM_THREADS is not 1: these are not the CPU-seconds of one thread")
    ratio, difference = compare_map()
    print(f"map_ratio={ratio:.1f} map_difference={difference:.1e}")


if __name__ == "__main__":
    main()
