"""Speed of the profile methods against their peers, on seeded data, one thread, in one run.

    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/profiles.py

mAP on 2400 profiles of 512 features against copairs; sphering of 3000 x 600 against pycytominer; Harmony on
100,000 x 50 in 8 batches against harmonypy, where it is installed; and, unless `--skip-large` is given, the memory of
sphering 1,000,000 x 1000. CPU-seconds, median of several runs. The last line prints the figures as `name=value`.
"""

import importlib.util
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

import numpy as np
import pandas as pd

from plateline.correct import Harmony, Sphering
from plateline.precision import average_precision, mean_average_precision

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


def compare_sphering():
    """CPU-seconds of pycytominer over ours, fit and transform, ZCA-cor; and the largest difference of a value."""
    from pycytominer.operations import Spherize

    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 600)) @ rng.normal(size=(600, 600)) / 25
    frame = pd.DataFrame(X)
    own, found = cpu_seconds(lambda: Sphering(variant="ZCA-cor", ridge=1e-12).fit(X).transform(X), 5)
    peer = Spherize(method="ZCA-cor", epsilon=1e-12, return_numpy=True)
    other, reference = cpu_seconds(lambda: peer.fit(frame).transform(frame), 3)
    # They take the variance over n wells, we over n - 1.
    difference = float(np.abs(found * np.sqrt(len(X) / (len(X) - 1)) - np.asarray(reference)).max())
    difference = min(difference, float(np.abs(found - np.asarray(reference)).max()))
    print(f"sphering 3000 x 600: ours {own:.2f} s, pycytominer {other:.2f} s, {other / own:.1f}x")
    print(f"  largest difference {difference:.1e}")
    return other / own


def batches(n=100_000, n_features=50, n_batches=8, n_clusters=12):
    """Clusters that all batches share in unequal numbers, moved by batch and by batch within cluster."""
    rng = np.random.default_rng(0)
    batch = rng.integers(n_batches, size=n)
    shares = rng.dirichlet(np.full(n_clusters, 2.0), n_batches).cumsum(axis=1)
    cluster = (rng.random((n, 1)) > shares[batch]).sum(axis=1).clip(max=n_clusters - 1)
    X = 3 * rng.normal(size=(n_clusters, n_features))[cluster] + rng.normal(size=(n_batches, n_features))[batch]
    X += 0.5 * rng.normal(size=(n_batches, n_clusters, n_features))[batch, cluster] + rng.normal(size=(n, n_features))
    return X.astype(np.float32), batch, cluster


def between_batches(X, batch, cluster):
    """Share of the variance within clusters that lies between batches."""
    within = X - pd.DataFrame(X).groupby(cluster).transform("mean").to_numpy()
    means = pd.DataFrame(within).groupby([batch, cluster]).transform("mean").to_numpy()
    return float((means**2).sum() / (within**2).sum())


def compare_harmony():
    """CPU-seconds of harmonypy over ours, NaN without it; agreement is printed."""
    X, batch, cluster = batches()
    names = pd.DataFrame({"Metadata_Batch": batch.astype(str)})
    own, found = cpu_seconds(lambda: Harmony().fit_transform(X, names), 3)
    print(f"Harmony 100,000 x 50, 8 batches: ours {own:.2f} s")
    print(f"  between batches within clusters: {between_batches(X, batch, cluster):.4f} before,", end=" ")
    print(f"{between_batches(found, batch, cluster):.4f} after")
    if importlib.util.find_spec("harmonypy") is None:
        print("  harmonypy is not installed: no comparison")
        return float("nan")
    import harmonypy

    other, peer = cpu_seconds(
        lambda: harmonypy.run_harmony(X, names, ["Metadata_Batch"], verbose=False, ncores=1).Z_corr, 3
    )
    peer = np.asarray(peer) if np.shape(peer) == X.shape else np.asarray(peer).T
    agreement = np.corrcoef((found - X).ravel(), (peer - X).ravel())[0, 1]
    print(f"  harmonypy {other:.2f} s, {other / own:.2f}x; {between_batches(peer, batch, cluster):.4f} after;", end=" ")
    print(f"correlation of what both moved {agreement:.4f}")
    return other / own


def sphere_large():
    """GB of the largest memory of a process of its own that spheres 1,000,000 x 1000 in float32, in place."""
    done = subprocess.run([sys.executable, __file__, "--large"], capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, done.stdout.split()[-2:])
    print(f"sphering 1,000,000 x 1000, fit on 100,000: {seconds:.0f} s of CPU, {gigabytes:.2f} GB at most")
    return gigabytes


def large():
    """What the process of its own does: CPU-seconds of the sphering and GB of all its memory, data included."""
    rng, X = np.random.default_rng(0), np.empty((1_000_000, 1000), np.float32)
    for start in range(0, len(X), 10_000):
        X[start : start + 10_000] = rng.standard_normal((10_000, 1000), np.float32)
    start = time.process_time()
    Sphering(ridge=0.1).fit(X[:100_000]).transform(X, copy=False)
    print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def main():
    if "--large" in sys.argv:
        large()
        return
    logging.disable(logging.INFO)
    if os.environ.get("OMP_NUM_THREADS") != "1":
        print("OMP_NUM_THREADS is not 1: these are not the CPU-seconds of one thread")
    figures = {"sphering_ratio": f"{compare_sphering():.1f}"}
    ratio, difference = compare_map()
    figures |= {"map_ratio": f"{ratio:.1f}", "map_difference": f"{difference:.1e}"}
    figures["harmony_ratio"] = f"{compare_harmony():.2f}"
    figures["sphering_gb"] = "nan" if "--skip-large" in sys.argv else f"{sphere_large():.2f}"
    print(" ".join(f"{name}={value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
