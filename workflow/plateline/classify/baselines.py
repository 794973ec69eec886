"""What a classifier must beat: shuffled labels, shuffled compounds, cell counts, intensities, and no image at all."""

import numpy as np
import pandas as pd

from plateline.classify.calibration import balanced_accuracy, is_right, log_loss
from plateline.classify.labels import Bools, Floats, Texts, compound_groups, text_of
from plateline.classify.splits import Make, Split, cross_fit
from plateline.identity import features_of, row_number

SCORES = ("accuracy", "balanced_accuracy", "log_loss")
# Enough to show what a fit on chance reaches; each costs one fit per group.
N_SHUFFLES = 5

Scores = dict[str, float | None]


def scores_of(probability: Floats, Y: Bools) -> Scores:
    """Accuracy, mean recall of the classes, and log loss in nats, of out-of-fold probabilities (N, K)."""
    right = is_right(probability, Y)
    return dict(zip(SCORES, (float(right.mean()), balanced_accuracy(right, Y), log_loss(probability, Y)), strict=True))


def baselines(
    rows: pd.DataFrame, Y: Bools, splits: list[Split], groups: Texts, make: Make, seed: int
) -> dict[str, Scores]:
    """Scores of the same classifier on less, or on nothing.

    Parameters
    ----------
    rows : DataFrame
        Labelled rows, metadata and features.
    Y : ndarray of bool, shape (N, K)
    splits, groups, make
        As for `cross_fit`.
    seed : int
        Of the shuffles.

    Returns
    -------
    dict of str to dict
        ``shuffled_labels`` (within each plate), ``shuffled_compounds`` (each compound's classes given to another),
        ``cell_count`` (cells per valid field), ``intensity_only``, ``metadata_only`` (batch and well position). The
        scores are None where the rows lack what they need: for shuffled compounds, two of them in every class.
    """
    rng = np.random.default_rng(seed)
    X = rows[features_of(list(rows))].to_numpy(np.float64)
    plates, compounds = text_of(rows, "Metadata_Plate"), compound_groups(rows)

    def score(values: Floats | None, labels: Bools) -> Scores:
        if values is None:
            return dict.fromkeys(SCORES)
        return scores_of(cross_fit(values, labels, splits, make, groups), labels)

    def by_chance(shuffled: list[Bools]) -> Scores:
        found = [score(X, labels) for labels in shuffled]
        return {name: float(np.mean([scores[name] for scores in found])) for name in SCORES}

    several = all(len(set(compounds[column])) > 1 for column in Y.T) and (compounds != "").all()
    compounds_shuffled = [shuffle_compounds(Y, compounds, rng) for _ in range(N_SHUFFLES)] if several else []
    return {
        "shuffled_labels": by_chance([shuffle_within(Y, plates, rng) for _ in range(N_SHUFFLES)]),
        "shuffled_compounds": by_chance(compounds_shuffled) if several else dict.fromkeys(SCORES),
        "cell_count": score(cell_counts(rows), Y),
        "intensity_only": score(intensities(rows), Y),
        "metadata_only": score(positions(rows), Y),
    }


def shuffle_within(Y: Bools, plates: Texts, rng: np.random.Generator) -> Bools:
    """The classes of the rows permuted within each plate."""
    shuffled = Y.copy()
    for plate in np.unique(plates):
        own = np.flatnonzero(plates == plate)
        shuffled[own] = Y[rng.permutation(own)]
    return shuffled


def shuffle_compounds(Y: Bools, compounds: Texts, rng: np.random.Generator) -> Bools:
    """The classes of each compound, those of its first row, given to another compound with all its rows."""
    _, first, place = np.unique(compounds, return_index=True, return_inverse=True)
    return Y[first[rng.permutation(len(first))]][place]


def cell_counts(rows: pd.DataFrame) -> Floats | None:
    """Cells per valid field (N, 1); None where a row lacks them."""
    unknown, one = pd.Series(np.nan, index=rows.index), pd.Series(1, index=rows.index)
    count = rows.get("Metadata_Object_Count", unknown).to_numpy(np.float64)
    sites = rows.get("Metadata_Site_Count", one).to_numpy(np.float64)  # imported profiles may not tell
    return (count / sites)[:, None] if np.isfinite(count).all() and (sites > 0).all() else None


def intensities(rows: pd.DataFrame) -> Floats | None:
    """The features of intensity (N, d); None where there is none by name."""
    names = [name for name in features_of(list(rows)) if "_Intensity_" in name]
    return rows[names].to_numpy(np.float64) if names else None


def positions(rows: pd.DataFrame) -> Floats | None:
    """Batch as indicators, row and column of the well (N, B + 2), each of mean 0 and variance 1.

    A treatment's wells are told by their first. None where all rows are alike.
    """
    wells, batch = text_of(rows, "Metadata_Well"), text_of(rows, "Metadata_Batch")
    places = np.array([(row_number(well[:-2]), int(well[-2:])) for well in wells], np.float64).reshape(-1, 2)
    told = np.column_stack([batch[:, None] == np.unique(batch), places]).astype(np.float64)
    told = told[:, np.ptp(told, axis=0) > 0]
    return (told - told.mean(axis=0)) / told.std(axis=0) if told.shape[1] else None
