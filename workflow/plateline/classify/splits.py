"""Which rows teach and which are asked: whole compounds, plates, batches, or both held out; and out-of-fold answers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator

from plateline.classify.labels import Bools, Floats, Texts, compound_groups, text_of
from plateline.errors import ConfigError, PlatelineError

# Words of the config, and the columns whose groups are held out together.
HOLD_OUT = {
    "row": ("Row",),
    "column": ("Column",),
    "plate": ("Plate",),
    "batch": ("Batch",),
    "compound": ("Compound",),
    "compound_batch": ("Compound", "Batch"),
    "compound_plate": ("Compound", "Plate"),
}
# Section 7 of the design: an interval resamples compounds or runs, never the wells of one compound.
REPLICATES = ("Plate", "Batch", "Compound")

Make = Callable[[], BaseEstimator]


@dataclass(frozen=True)
class Split:
    """Rows that teach and rows that are asked, (N,) each; no group of the asked is among those that teach."""

    train: Bools
    test: Bools


def hold_out_groups(wells: pd.DataFrame, hold_out: str) -> list[Texts]:
    """Groups of each row, one array for each thing that is held out.

    Parameters
    ----------
    wells : DataFrame
        One row per well or treatment, with the metadata columns of the groups.
    hold_out : str
        A key of `HOLD_OUT`. Rows and columns are the same on all plates: what a plate's edge does, it does on every
        plate. Compounds of one InChIKey skeleton are one.

    Returns
    -------
    list of ndarray of str objects, shape (N,)
        As text, in the order of the rows; empty text where a row has none.

    Raises
    ------
    ConfigError
        If `hold_out` is none of these words.
    PlatelineError
        If the profiles lack a column.
    """
    if hold_out not in HOLD_OUT:
        msg = f"classify.hold_out is {hold_out!r}; expected one of {', '.join(HOLD_OUT)}"
        raise ConfigError(msg)
    columns = [f"Metadata_{word}" for word in HOLD_OUT[hold_out]]
    missing = [column for column in columns if column not in wells]
    if missing:
        msg = f"profiles lack {missing[0]}, needed for classify.hold_out {hold_out!r}; rerun rule profile_plate"
        raise PlatelineError(msg)
    return [compound_groups(wells) if c == "Metadata_Compound" else text_of(wells, c) for c in columns]


def leave_out(groups: list[Texts]) -> list[Split]:
    """One split for each combination of groups that occurs.

    Parameters
    ----------
    groups : list of ndarray of str, shape (N,)
        What is held out together: with compounds and batches, the rows of one compound in one batch are asked, and
        neither that compound nor that batch teaches.

    Returns
    -------
    list of Split
        Each row is asked once; sorted by group.

    Raises
    ------
    PlatelineError
        If there are fewer than two groups of a kind.
    """
    for names in groups:
        if len(set(names)) < 2:
            found = sorted(set(names))
            msg = f"{len(found)} group(s) to hold out among {len(names)} rows: {found}; expected at least 2"
            raise PlatelineError(msg)
    splits = []
    for held in sorted(set(zip(*groups, strict=True))):
        own = [names == name for names, name in zip(groups, held, strict=True)]
        splits.append(Split(train=~np.any(own, axis=0), test=np.all(own, axis=0)))
    return splits


def leave_class_out(Y: Bools, compounds: Texts) -> list[tuple[int, list[Split]]]:
    """For each class, the splits under which it is unknown: no row of it teaches, and no row of the asked compound.

    Parameters
    ----------
    Y : ndarray of bool, shape (N, K)
        Classes of the rows.
    compounds : ndarray of str, shape (N,)

    Returns
    -------
    list of (int, list of Split)
        Class, and one split for each compound; every row is asked once per class.
    """
    answer = []
    for k in range(Y.shape[1]):
        splits = [Split(train=~Y[:, k] & (compounds != name), test=compounds == name) for name in np.unique(compounds)]
        answer.append((k, splits))
    return answer


def folds_of(Y: Bools, groups: Texts, n_folds: int) -> npt.NDArray[np.intp]:
    """Fold of each row (N,): whole groups, those of one class in different folds as far as there are folds.

    Parameters
    ----------
    Y : ndarray of bool, shape (N, K)
        Each row in at least one class.
    groups : ndarray of str, shape (N,)
    n_folds : int
        At most so many, fewer where there are fewer groups.
    """
    names, first = np.unique(groups, return_index=True)
    order = np.argsort(Y[first].argmax(axis=1), kind="stable")
    fold = np.empty(len(names), np.intp)
    fold[order] = np.arange(len(names)) % min(n_folds, len(names))
    return fold[np.searchsorted(names, groups)]


def cross_fit(X: npt.ArrayLike, Y: Bools, splits: list[Split], make: Make, groups: Texts) -> Floats:
    """Out-of-fold class probabilities.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Rows by features, finite, D at least 1.
    Y : ndarray of bool, shape (N, K)
        Classes; a row of several teaches each.
    splits : list of Split
    make : callable
        Called without arguments for every fold, gives an unfitted estimator.
    groups : ndarray of str, shape (N,)
        What the rows that teach are held out by, should the estimator do so itself (``fit(X, y, groups)``).

    Returns
    -------
    ndarray of float64, shape (N, K)
        Rows sum to 1; a class that no row teaches has probability 0. NaN where no row teaches.
    """
    X = np.asarray(X, np.float64)
    probability = np.full(Y.shape, np.nan)
    for split in splits:
        if split.train.any():
            probability[split.test] = fit_predict(
                X[split.train], Y[split.train], groups[split.train], X[split.test], make
            )
    return probability


def fit_predict(X_train: Floats, Y_train: Bools, groups: Texts, X: Floats, make: Make) -> Floats:
    """Probabilities (M, K) of all the classes, 0 for those the training rows lack."""
    row, y = np.nonzero(Y_train)
    probability = np.zeros((len(X), Y_train.shape[1]))
    seen = np.unique(y)
    if len(seen) == 1 or not len(X):
        probability[:, seen[:1]] = 1
        return probability
    estimator = make()
    more = {"groups": groups[row]} if getattr(estimator, "takes_groups", False) else {}
    estimator.fit(X_train[row], y, **more)
    # The fit knows its own classes only, in its own order.
    probability[:, estimator.classes_] = estimator.predict_proba(X)
    return probability
