"""Distance of replicates from the negative controls, and p from control wells that were scored in the same way.

Owns the cross-fitted null: a treatment, and a set of control wells, is scored by a fit to the controls of plates on
which it does not stand. The well is the observation, the plate the block; sets of control wells have as many
wells on as many plates as the treatment has.
"""

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.hits.permute import BoolArray, FloatArray, groups_of

IntArray = npt.NDArray[np.intp]
# Whole plates are left out together in this many fits at most: each costs an eigendecomposition.
MOST_FITS = 20
# Fewer control wells say nothing of a tail of 5 %.
MIN_CONTROLS = 20
# Nominal rate at which false positives are counted, and the observed one above which calls do not transfer.
NOMINAL, TRANSFERS = 0.05, 0.10
RESAMPLES = 1000
# Sets of plates on which treatments may stand: each costs a fit.
MOST_LAYOUTS = 400
TEST_COLUMNS = {"null_distance": float, "null_p": float, "null_floor": float, "n_null": int, "null_reason": object}


def whiten_across(
    values: FloatArray, plates: npt.NDArray, negative: BoolArray, *, left_out: npt.NDArray, ridge: float
) -> FloatArray:
    """Wells centred on the negatives of their plate, and whitened by the negatives of other plates.

    Parameters
    ----------
    values : (N, F) float64
        Profiles, finite.
    plates : (N,) array
        Plate of each well.
    negative : (N,) bool
        Negative controls.
    left_out : (N,) array
        What is left out together from the fit that scores it: plates, or batches of plates.
    ridge : float
        Added to the eigenvalues of the correlation of the controls; 1 is that of noise alone.

    Returns
    -------
    (N, F) float64
        NaN for wells of plates with fewer than two negatives, and for all where only one block has negatives.

    Notes
    -----
    A negative is centred with itself in the mean; `set_distances` undoes that. ZCA whitening with a ridge: its rows
    keep their axes, so that wells scored by different fits can be averaged. Features without spread are left out.

    References
    ----------
    Kessy et al. 2018, doi:10.1080/00031305.2016.1277159
    """
    centred, degrees = centre_on_negatives(values, plates, negative)
    fit = negative & np.isfinite(centred).all(axis=1)
    white = np.full_like(values, np.nan)
    for rows in _folds(left_out):
        others = fit.copy()
        others[rows] = False
        if others.any():
            white[rows] = centred[rows] @ _whitening(centred[others], degrees[others].sum(), ridge)
    return white


def centre_on_negatives(values: FloatArray, plates: npt.NDArray, negative: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Wells (N, F) minus the mean of their plate's negatives, NaN with fewer than two; degrees of freedom of each."""
    centred, degrees = np.full_like(values, np.nan), np.zeros(len(values))
    for rows in groups_of(pd.Series(plates)).values():
        own = rows[negative[rows]]
        if len(own) > 1:
            centred[rows] = values[rows] - values[own].mean(axis=0)
            degrees[own] = (len(own) - 1) / len(own)
    return centred, degrees


def _folds(left_out: npt.NDArray) -> list[IntArray]:
    """Rows that are left out together, in at most `MOST_FITS` folds of whole blocks."""
    blocks = list(groups_of(pd.Series(left_out)).values())
    number = min(len(blocks), MOST_FITS)
    return [np.concatenate(blocks[start::number]) for start in range(number)]


def _whitening(residuals: FloatArray, degrees: float, ridge: float) -> FloatArray:
    """(F, F) matrix that scales and decorrelates, from residuals (W, F) with so many degrees of freedom."""
    spread = np.sqrt((residuals**2).sum(axis=0) / degrees)
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    scaled = residuals * scale
    values, vectors = np.linalg.eigh(scaled.T @ scaled / degrees)
    return scale[:, None] * ((vectors / np.sqrt(values.clip(0) + ridge)) @ vectors.T)


def set_distances(white: FloatArray, plates: npt.NDArray, negatives: dict, sets: IntArray) -> FloatArray:
    """Root mean square of the mean of each set of control wells, as if the rest of their plates were its controls.

    Parameters
    ----------
    white : (N, F) float64
        From `whiten_across`.
    plates : (N,) array
    negatives : dict
        Number of negative wells of each plate.
    sets : (S, K) int
        Rows of `white`, different ones in a set.

    Notes
    -----
    n controls centred on their mean: the mean of c of them, seen from the other n - c, is n / (n - c) times as far.
    """
    wells, codes = np.unique(sets, return_inverse=True)
    codes = codes.reshape(sets.shape)
    gram = white[wells] @ white[wells].T
    of_plate = np.unique(plates[wells], return_inverse=True)[1][codes]
    count = (of_plate[:, :, None] == of_plate[:, None, :]).sum(axis=2)
    total = np.array([negatives[plate] for plate in plates[wells]], dtype=np.float64)[codes]
    weight = total / (total - count)
    squares = (weight[:, :, None] * weight[:, None, :] * gram[codes[:, :, None], codes[:, None, :]]).sum(axis=(1, 2))
    return np.sqrt(squares.clip(0) / white.shape[1]) / sets.shape[1]


def draw_sets(controls: list[IntArray], pattern: list[int], draws: int, seed: list[int]) -> IntArray:
    """Different sets of control wells (S, K), so many of each plate.

    Parameters
    ----------
    controls : list of (n,) int
        Rows of the controls of each plate.
    pattern : list of int
        Wells of a set on each plate; at least one control of the plate must be left.
    draws : int
        Sets drawn; those that come twice count once.
    seed : list of int

    Returns
    -------
    (S, K) int
        (0, K) where a plate has too few controls.
    """
    rng = np.random.default_rng(seed)
    if any(len(rows) <= number for rows, number in zip(controls, pattern, strict=True)):
        return np.zeros((0, sum(pattern)), dtype=np.intp)
    picks = [
        rows[np.sort(np.argsort(rng.random((draws, len(rows))), axis=1)[:, :number], axis=1)]
        for rows, number in zip(controls, pattern, strict=True)
    ]
    return np.unique(np.hstack(picks), axis=0)


def control_test(
    values: FloatArray,
    plates: npt.NDArray,
    negative: BoolArray,
    names: pd.Series,
    *,
    ridge: float,
    n_draws: int,
    seed: int,
) -> pd.DataFrame:
    """Distance of every treatment's mean profile, and p from sets of control wells.

    Parameters
    ----------
    values : (N, F) float64
        Profiles, finite.
    plates : (N,) array
    negative : (N,) bool
    names : Series of str
        Treatment of each well that is tested, missing for others.
    ridge : float
        As in `whiten_across`.
    n_draws : int
        Sets of control wells, over all plates that hold treatments in the same pattern.
    seed : int

    Returns
    -------
    DataFrame
        Index treatment: `null_distance`, `null_p` (1 + sets as far) / (1 + sets), `null_floor` the smallest p that
        could have come out, `n_null` the number of sets, `null_reason` why there is no p.

    Notes
    -----
    The fit that scores a treatment leaves out all plates on which it stands, and so does the one that scores a set of
    controls: the sets are drawn from the plates of treatments with as many wells on as many plates. Where a treatment
    stands on every plate nothing is left to fit, and there is no p.
    """
    centred, degrees = centre_on_negatives(values, plates, negative)
    known = np.isfinite(centred).all(axis=1)
    wells = groups_of(names.where(known))
    layouts = {name: tuple(sorted(Counter(plates[own]).items())) for name, own in wells.items()}
    reason, distance, nulls = _why_not(layouts, negative & known), dict.fromkeys(wells, np.nan), defaultdict(list)
    shared = Counter(pattern_of(layout) for layout in set(layouts.values()))
    for number, layout in enumerate(sorted(set(layouts.values())) if not reason else ()):
        inside = np.isin(plates, [plate for plate, _ in layout])
        fit = negative & known & ~inside
        if sum(pattern_of(layout)) < 2 or not fit.any():
            continue
        white = np.full_like(values, np.nan)
        white[inside] = centred[inside] @ _whitening(centred[fit], degrees[fit].sum(), ridge)
        for name in (name for name, own in layouts.items() if own == layout):
            distance[name] = float(np.sqrt((white[wells[name]].mean(axis=0) ** 2).mean()))
        controls = [np.flatnonzero(negative & known & (plates == plate)) for plate, _ in layout]
        draws = -(-n_draws // shared[pattern_of(layout)])
        sets = draw_sets(controls, [count for _, count in layout], draws, [seed, number])
        negatives = {plate: len(rows) for (plate, _), rows in zip(layout, controls, strict=True)}
        nulls[pattern_of(layout)].append(set_distances(white, plates, negatives, sets))
    pooled = {pattern: np.concatenate(parts) for pattern, parts in nulls.items()}
    rows = [_test(distance[name], pooled.get(pattern_of(layouts[name]), np.zeros(0)), reason) for name in wells]
    return pd.DataFrame(rows, index=pd.Index(list(wells), dtype=object), columns=list(TEST_COLUMNS)).astype(
        TEST_COLUMNS
    )


def pattern_of(layout: tuple[tuple[str, int], ...]) -> tuple[int, ...]:
    """Numbers of wells on the plates of a layout, largest first."""
    return tuple(sorted((count for _, count in layout), reverse=True))


def _why_not(layouts: dict[str, tuple], controls: BoolArray) -> str:
    """Why no treatment can be tested, or empty."""
    if controls.sum() < MIN_CONTROLS:
        return f"{controls.sum()} negative control wells; expected {MIN_CONTROLS} for a null of controls"
    fits = len(set(layouts.values()))
    return f"treatments stand on {fits} different sets of plates; at most {MOST_LAYOUTS}" if fits > MOST_LAYOUTS else ""


def _test(distance: float, null: FloatArray, reason: str) -> list[object]:
    """Row of one treatment."""
    if np.isnan(distance) or not len(null):
        why = reason or "no null of controls: no plates without this treatment, or one well"
        return [distance, np.nan, np.nan, len(null), why]
    return [distance, (1 + (null >= distance).sum()) / (1 + len(null)), 1 / (1 + len(null)), len(null), ""]


def false_positives(
    values: FloatArray, profiles: pd.DataFrame, negative: BoolArray, *, ridge: float, seed: int
) -> pd.DataFrame:
    """Share of control wells called at a nominal 5 %, of plates and of batches that the fit had not seen.

    Parameters
    ----------
    values : (N, F) float64
        Profiles, finite.
    profiles : DataFrame
        `Metadata_Plate` and, where known, `Metadata_Batch` of the same wells.
    negative : (N,) bool
    ridge : float
        As in `whiten_across`.
    seed : int
        Of the resampling of blocks.

    Returns
    -------
    DataFrame
        One row for `plate` and one for `batch`: `held_out`, `n_blocks`, `n_wells`, `rate`, `low`, `high` (95 % over
        blocks), `reason`, empty or why there is none, or that calls do not transfer.
    """
    plates = profiles["Metadata_Plate"].to_numpy()
    batches = profiles.get("Metadata_Batch", pd.Series("", index=profiles.index)).fillna("").to_numpy()
    rows = []
    for word, blocks in (("plate", plates), ("batch", batches)):
        white = whiten_across(values, plates, negative, left_out=blocks, ridge=ridge)
        rows.append({"held_out": word} | _rate(white, plates, negative, blocks, seed))
    table = pd.DataFrame(rows)
    far = (table["held_out"] == "batch") & (table["rate"] > TRANSFERS)
    table.loc[far, "reason"] = "calls do not transfer across batches: a batch without controls of its own is not called"
    return table


def _rate(white: FloatArray, plates: npt.NDArray, negative: BoolArray, blocks: npt.NDArray, seed: int) -> dict:
    """Share of the negatives whose p, from the negatives of other blocks, is at most 5 %."""
    wells = np.flatnonzero(negative & np.isfinite(white).all(axis=1))
    own, n_blocks = blocks[wells], len(set(blocks[wells]))
    row: dict[str, object] = {"n_blocks": n_blocks, "n_wells": len(wells)}
    row |= {"rate": np.nan, "low": np.nan, "high": np.nan, "reason": ""}
    if n_blocks < 2 or len(wells) < MIN_CONTROLS:
        return row | {"reason": f"{len(wells)} controls in {n_blocks} blocks; expected {MIN_CONTROLS} in 2"}
    distance = set_distances(white, plates, Counter(plates[wells]), wells[:, None])
    farther = (distance >= distance[:, None]) & (own != own[:, None])
    p = (1 + farther.sum(axis=1)) / (1 + (own != own[:, None]).sum(axis=1))
    called = pd.Series(p <= NOMINAL).groupby(own).agg(["sum", "size"]).to_numpy(dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(called), size=(RESAMPLES, len(called)))
    resampled = called[picks].sum(axis=1)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], [0.025, 0.975])
    return row | {"rate": float((p <= NOMINAL).mean()), "low": float(low), "high": float(high)}
