"""How surely an edge effect is found: power and false alarm on simulated 384-well plates.

Run it alone, from anywhere: ``python tests/benchmarks/edge.py [plates]``. The plate: well CV 20 %, 2 % hits among the
samples (reading 40 %), 32 control wells scattered at random, every well of the outermost ring 10 % lower. Only the
control wells are tested. False alarm is the share of plates without an edge effect on which one is found, p <= 0.05.
"""

import os
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm

# As with OpenMP elsewhere: one thread a process, whatever the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "workflow"))
from plateline import assay  # noqa: E402
from plateline.assay.positions import on_edge  # noqa: E402
from plateline.identity import SHAPES, well_name  # noqa: E402

SHAPE, CV, EDGE, HITS, HIT_LEVEL = 384, 0.20, -0.10, 0.02, 0.40
N_CONTROLS, ALPHA = 32, 0.05
TARGETS = {"power": 0.9, "false alarm": 0.05}
WELLS = [well_name(row, column) for row in range(SHAPES[SHAPE][0]) for column in range(SHAPES[SHAPE][1])]
RING = on_edge(WELLS, SHAPE)


def draw_plate(rng: np.random.Generator, effect: float, controls: np.ndarray) -> np.ndarray:
    """Readout of every well, (384,): 1 with the CV, 2 % hits among the wells that are no controls, the edge shifted."""
    level = np.where(RING, 1 + effect, 1.0)
    samples = np.setdiff1d(np.arange(SHAPE), controls)
    hits = rng.choice(samples, round(HITS * samples.size), replace=False)
    level[hits] *= HIT_LEVEL
    return level * rng.normal(1, CV, SHAPE)


def scatter(rng: np.random.Generator, n_controls: int, on_ring: int | None = None) -> np.ndarray:
    """Places of control wells: anywhere, or so many of them on the ring."""
    if on_ring is None:
        return rng.choice(SHAPE, n_controls, replace=False)
    ring, inside = np.flatnonzero(RING), np.flatnonzero(~RING)
    return np.r_[rng.choice(ring, on_ring, replace=False), rng.choice(inside, n_controls - on_ring, replace=False)]


def found_share(n_plates: int, seed: int, *, effect: float, n_controls: int, on_ring: int | None = None) -> float:
    """Share of plates whose control wells show an edge effect; a plate that is not estimable shows none."""
    return _share(n_plates, seed, effect, n_controls, on_ring, samples=False)


def found_share_of_samples(n_plates: int, seed: int, *, effect: float) -> float:
    """The same of the samples of one well each, which is another test with another supposition (`single_samples`)."""
    return _share(n_plates, seed, effect, N_CONTROLS, None, samples=True)


def _share(n_plates, seed, effect, n_controls, on_ring, *, samples):
    found = 0
    for plate in range(n_plates):
        rng = np.random.default_rng([seed, plate])
        controls = scatter(rng, n_controls, on_ring)
        values = draw_plate(rng, effect, controls)
        used = np.setdiff1d(np.arange(SHAPE), controls) if samples else controls
        options = {"shape": SHAPE, "n_permutations": 499, "confidence": 0.95, "seed": plate}
        found += assay.edge_effect(values[used], [WELLS[i] for i in used], **options)["p"] <= ALPHA
    return found / n_plates


def edge_power(n_plates: int, seed: int) -> tuple[float, float]:
    """Power and false alarm of the edge test on 32 scattered control wells, as the issue asks for.

    Parameters
    ----------
    n_plates : int
        Simulated with the effect, and again without.
    seed : int
        Of the simulation.
    """
    shares = [found_share(n_plates, seed, effect=effect, n_controls=N_CONTROLS) for effect in (EDGE, 0.0)]
    return shares[0], shares[1]


def edge_power_of_samples(n_plates: int, seed: int) -> tuple[float, float]:
    """Power and false alarm of the row `edge of the samples`: 352 samples of one well each, 2 % of them hits."""
    shares = [found_share_of_samples(n_plates, seed, effect=effect) for effect in (EDGE, 0.0)]
    return shares[0], shares[1]


def ceiling(n_controls: int) -> float:
    """Power no valid test on so many controls exceeds: the best share on the edge, both SDs known, its side known.

    The level elsewhere has to come from the same wells; for two normal groups of known spread the one-sided z test is
    then the most powerful one.
    """
    ring = np.arange(1, n_controls)
    error = CV * np.sqrt((1 + EDGE) ** 2 / ring + 1 / (n_controls - ring))
    return float(norm.sf(norm.isf(ALPHA) - abs(EDGE) / error).max())


def main() -> None:
    """Print the table, then the line."""
    n_plates = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(
        f"Edge effect {EDGE:+.0%} on {SHAPE} wells, CV {CV:.0%}, {HITS:.0%} hits; {n_plates} plates each, p <= {ALPHA}"
    )
    print(f"{'wells of one treatment':<58} {'power':>7} {'false alarm':>12}")
    lines = [(f"{n} scattered at random", n, None, EDGE) for n in (32, 64, 128, 192, 256, 320)]
    lines += [(f"{n}, half of them on the edge", n, n // 2, EDGE) for n in (32, 64, 96, 128, 152)]
    lines += [(f"32 scattered at random, edge {effect:+.0%}", 32, None, effect) for effect in (-0.2, -0.3, -0.4)]
    for title, n, ring, effect in lines:
        power = found_share(n_plates, 0, effect=effect, n_controls=n, on_ring=ring)
        alarm = found_share(n_plates, 0, effect=0.0, n_controls=n, on_ring=ring)
        print(f"{title:<58} {power:7.3f} {alarm:12.3f}")
    print(f"{'32 as well placed as can be: bound of every test':<58} {ceiling(N_CONTROLS):7.3f}")
    power, alarm = edge_power_of_samples(n_plates, 0)
    print(f"{'352 samples of one well each (own row, own supposition)':<58} {power:7.3f} {alarm:12.3f}")
    power, alarm = edge_power(n_plates, 0)
    met = power >= TARGETS["power"] and alarm <= TARGETS["false alarm"]
    print(
        f"asked for: power >= {TARGETS['power']}, false alarm <= {TARGETS['false alarm']}: {'met' if met else 'MISSED'}"
    )
    print(f"edge_power={power:.3f} edge_false_alarm={alarm:.3f}")


if __name__ == "__main__":
    main()
