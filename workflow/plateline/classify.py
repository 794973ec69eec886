"""What the treatments resemble: mechanism, how sure, and whether anything like it was seen in training.

Owns the classifiers, the splits that hold out whole groups of wells, and the scores with their baselines. A classifier
is a function of its options and a seed that gives an unfitted scikit-learn estimator with ``predict_proba``. Only
control wells carry labels; no score of a labelled well comes from a fit that saw its group.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from plateline.errors import ConfigError, PlatelineError
from plateline.identity import WELL, features_of

HOLD_OUT = {name: f"Metadata_{name.capitalize()}" for name in ("row", "column", "plate", "batch", "compound")}
# Section 7 of the design: an interval resamples compounds or runs, never the wells of one compound.
REPLICATES = ("plate", "batch", "compound")
COLUMNS = ["Metadata_Treatment", "Metadata_Compound", "mechanism", "confidence", "set", "novelty", "n_wells"]
NEEDED = [*WELL, "Metadata_ControlType", "Metadata_Treatment", "Metadata_Compound"]
SCORES = ("accuracy", "balanced_accuracy", "log_loss")
# Label of negative controls, and the set to which nothing conforms.
NEGATIVE, NOTHING = "negative", "none"
N_BOOTSTRAP = 2000
CONFIDENCE = 0.95
# Enough to show what a fit on chance reaches; each costs one fit per group.
N_SHUFFLES = 5
# A probability of 0 for the true class would make one well's log loss infinite.
MIN_PROBABILITY = 1e-6

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]
Make = Callable[[], BaseEstimator]


def logistic(*, C: float, seed: int) -> Pipeline:
    """Multinomial logistic regression on standardised features, unfitted.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty, above 0.
    seed : int
        Of the solver; the default one needs no chance.

    Returns
    -------
    Pipeline
        With ``fit(X, y)`` and ``predict_proba(X)``, X (N, D) float, y (N,) labels.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000, random_state=seed))


def hold_out_groups(profiles: pd.DataFrame, hold_out: str) -> Texts:
    """Group of each well; wells of one group are never on both sides of a split.

    Parameters
    ----------
    profiles : DataFrame
        One row per well, with the metadata column of the group.
    hold_out : str
        ``row``, ``column``, ``plate``, ``batch`` or ``compound``. Rows and columns are the same on all plates: what
        a plate's edge does, it does on every plate.

    Returns
    -------
    ndarray of str objects, shape (N,)
        As text, in the order of the rows; empty text where the well has none.

    Raises
    ------
    ConfigError
        If `hold_out` is none of these words.
    PlatelineError
        If the profiles lack the column.
    """
    if hold_out not in HOLD_OUT:
        msg = f"classify.hold_out is {hold_out!r}; expected one of {', '.join(HOLD_OUT)}"
        raise ConfigError(msg)
    if HOLD_OUT[hold_out] not in profiles:
        msg = f"profiles lack {HOLD_OUT[hold_out]}, needed for classify.hold_out {hold_out!r}; rerun rule profile_plate"
        raise PlatelineError(msg)
    return _text(profiles, HOLD_OUT[hold_out])


def cross_fit(X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike, make: Make) -> Floats:
    """Out-of-fold class probabilities: each group is predicted by a fit on all the others.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Wells by features, finite, D at least 1.
    y : array_like of str, shape (N,)
        Classes.
    groups : array_like of str, shape (N,)
        At least two different ones.
    make : callable
        Called without arguments for every fold, gives an unfitted estimator.

    Returns
    -------
    ndarray of float64, shape (N, K)
        Columns in the order of ``np.unique(y)``, rows sum to 1. A class that is in one group only is unknown to the
        fit that predicts it: probability 0 there.

    Raises
    ------
    PlatelineError
        If there are fewer than two groups.
    """
    X, y, groups = np.asarray(X, np.float64), np.asarray(y, object), np.asarray(groups, object)
    classes, names = np.unique(y), np.unique(groups)
    if len(names) < 2:
        msg = f"{len(names)} group(s) to hold out among {len(y)} wells: {list(names)}; expected at least 2"
        raise PlatelineError(msg)
    probability = np.zeros((len(y), len(classes)))
    for name in names:
        held = groups == name
        probability[held] = _fit_predict(X[~held], y[~held], X[held], classes, make)
    return probability


def classify_treatments(
    profiles: pd.DataFrame, make: Make, *, hold_out: str, coverage: float, seed: int
) -> tuple[pd.DataFrame, dict]:
    """Mechanism, confidence, conformal set and novelty of every treatment, and how far to trust them.

    Parameters
    ----------
    profiles : DataFrame
        Corrected profiles of all plates, one row per well, features finite. Labels are `Metadata_MoA` of control and
        reference wells where there is any, negative controls without one being ``negative``; else `ControlType`,
        ``positive`` against ``negative``. Wells without treatment or of type ``exclude`` are passed over.
    make : callable
        Called without arguments, gives an unfitted estimator.
    hold_out : str
        What is held out together, see `hold_out_groups`.
    coverage : float
        Wanted share of sets that hold the true class, between 0 and 1.
    seed : int
        Of the bootstrap and the shuffled labels.

    Returns
    -------
    predictions : DataFrame
        Columns `COLUMNS`, one row per treatment, sorted. `mechanism` has the largest mean well probability
        (`confidence`; the first by name of ties); labelled wells enter with their out-of-fold probabilities. `set`
        joins the conforming classes by ``|``; ``none`` where nothing conforms. `novelty` is the conformal p of the
        distance to the nearest training well, small for the unseen. Empty text or NaN where not estimable.
    evaluation : dict
        JSON-serialisable, None for what is not estimable: ``status`` (``ok`` or ``not estimable``), ``reason``, ``n``
        (labelled wells), ``n_groups``, ``hold_out``, ``classes`` (name to wells), ``accuracy`` with ``accuracy_low``,
        ``accuracy_high``, ``interval`` (what was resampled, or why nothing), ``balanced_accuracy``, ``log_loss``
        (nats), ``baselines`` (``shuffled_labels`` within each plate, ``cell_count`` per valid field: the same three
        scores), ``coverage``, ``novelty_p_floor`` (the smallest attainable p).

    Raises
    ------
    ConfigError
        If `hold_out` is no known word.
    PlatelineError
        If a column is missing, a feature is not finite, or a labelled well has no group.

    Notes
    -----
    Scores are over wells. The interval resamples plates, batches or compounds; rows and columns are parts of one plate
    and no replicates, and groups that all score alike tell a bootstrap nothing: no interval then.
    The set keeps the classes whose 1 - probability is at most the ceil((n + 1) coverage)-th smallest of the n labelled
    wells' out-of-fold scores: all classes when n is too small. It holds for single wells like the control wells, over
    classes together.
    Novelty compares the mean distance of a treatment's wells with those of single labelled wells, each to the nearest
    labelled well of another group: cautious for several wells, NaN below two. Held out by row or column, the labelled
    wells share the plate and its scaling with the wells they are compared to: read it as a rank.
    Where plates hold one class each, shuffling within plate moves nothing and that baseline is as good as the
    classifier: plate and mechanism cannot be told apart.

    References
    ----------
    Vovk 2015, cross-conformal predictors, https://doi.org/10.1007/s10472-013-9368-4
    """
    wells = _check(profiles)
    X = wells[features_of(list(wells))].to_numpy(np.float64)  # (N, D)
    y = _labels(wells)
    known = y != ""
    groups = hold_out_groups(wells, hold_out)
    evaluation = _describe(y[known], groups[known], X.shape[1], hold_out) | {"coverage": coverage}
    classes = np.unique(y[known])
    probability = np.full((len(wells), len(classes)), np.nan)
    distance, threshold = np.full(len(wells), np.nan), np.nan
    if len(classes) > 1 and X.shape[1]:
        probability[~known] = _fit_predict(X[known], y[known], X[~known], classes, make)
    if evaluation["status"] == "ok":
        probability[known] = cross_fit(X[known], y[known], groups[known], make)
        threshold = _conformal_quantile(1 - _of_true_class(probability[known], y[known]), coverage)
        distance = _distance_to_training(X, groups, known)
        evaluation |= _evaluate(probability[known], wells[known], y[known], groups[known], make, seed)
        evaluation |= _interval(probability[known], y[known], groups[known], hold_out, seed)
        evaluation["novelty_p_floor"] = 1 / (int(known.sum()) + 1)
    return _predict(wells, probability, classes, threshold, distance, distance[known]), evaluation


def _check(profiles: pd.DataFrame) -> pd.DataFrame:
    """The wells that may take part, sorted, after refusing a table that is not corrected profiles."""
    missing = [c for c in NEEDED if c not in profiles]
    if missing:
        msg = f"corrected profiles lack {missing}; they have {list(profiles)[:9]}; rerun rule correct_screen"
        raise PlatelineError(msg)
    features = features_of(list(profiles))
    finite = np.isfinite(profiles[features].to_numpy(np.float64))
    if not finite.all():
        bad = [f for f, good in zip(features, finite.all(axis=0), strict=True) if not good]
        msg = f"corrected profiles are not finite in {bad[:5]}; expected numbers; rerun rule correct_screen"
        raise PlatelineError(msg)
    wells = profiles[profiles["Metadata_ControlType"] != "exclude"]
    return wells.sort_values(WELL, kind="stable", ignore_index=True)


def _text(wells: pd.DataFrame, column: str) -> Texts:
    """The column as text, empty where there is none."""
    if column not in wells:
        return np.full(len(wells), "", object)
    return np.array(["" if pd.isna(v) else str(v).strip() for v in wells[column]], object)


def _labels(wells: pd.DataFrame) -> Texts:
    """Class of each control well by mechanism or by control type; empty text for the wells to be predicted."""
    kind, mechanism = _text(wells, "Metadata_ControlType"), _text(wells, "Metadata_MoA")
    mechanism[~np.isin(kind, ["negative", "positive", "reference"])] = ""
    if not (mechanism != "").any():
        return np.where(np.isin(kind, [NEGATIVE, "positive"]), kind, "").astype(object)
    # Without a class of their own for inactive wells, inactive compounds would have to resemble some mechanism.
    return np.where((mechanism == "") & (kind == NEGATIVE), NEGATIVE, mechanism).astype(object)


def _describe(y: Texts, groups: Texts, n_features: int, hold_out: str) -> dict:
    """The evaluation without scores: what was labelled, and why it cannot be scored."""
    if (groups == "").any():
        msg = f"{(groups == '').sum()} labelled wells have no {HOLD_OUT[hold_out]}; choose another classify.hold_out"
        raise PlatelineError(msg)
    classes, counts = np.unique(y, return_counts=True)
    narrow = [c for c in classes if len(set(groups[y == c])) < 2]
    reason = ""
    if not n_features:
        reason = "not estimable: the profiles have no feature"
    elif len(classes) < 2:
        reason = f"not estimable: {len(classes)} class among the control wells ({', '.join(classes)}), 2 needed"
    elif narrow:
        reason = f"not estimable: wells of {', '.join(narrow)} in fewer than two groups by {hold_out}"
    return {
        "status": "not estimable" if reason else "ok",
        "reason": reason,
        "n": len(y),
        "n_groups": len(set(groups)),
        "hold_out": hold_out,
        "classes": dict(zip(classes.tolist(), counts.tolist(), strict=True)),
        **dict.fromkeys([*SCORES, "accuracy_low", "accuracy_high", "novelty_p_floor"]),
        "interval": "",
        "baselines": {},
    }


def _evaluate(probability: Floats, wells: pd.DataFrame, y: Texts, groups: Texts, make: Make, seed: int) -> dict:
    """Scores of the out-of-fold probabilities, and of the baselines."""
    rng = np.random.default_rng(seed)
    X = wells[features_of(list(wells))].to_numpy(np.float64)
    plates = _text(wells, "Metadata_Plate")
    shuffled = [_shuffle_within(y, plates, rng) for _ in range(N_SHUFFLES)]
    chance = [_scores(cross_fit(X, z, groups, make), z) for z in shuffled]
    baselines = {
        "shuffled_labels": {name: float(np.mean([c[name] for c in chance])) for name in chance[0]},
        "cell_count": _score_cell_count(wells, y, groups, make),
    }
    return {**_scores(probability, y), "baselines": baselines}


def _scores(probability: Floats, y: Texts) -> dict[str, float]:
    """Accuracy, mean recall of the classes, and log loss in nats."""
    classes = np.unique(y)
    right = classes[probability.argmax(axis=1)] == y
    loss = -np.log(np.maximum(_of_true_class(probability, y), MIN_PROBABILITY)).mean()
    recall = np.mean([right[y == c].mean() for c in classes])
    return dict(zip(SCORES, (float(right.mean()), float(recall), float(loss)), strict=True))


def _score_cell_count(wells: pd.DataFrame, y: Texts, groups: Texts, make: Make) -> dict:
    """Scores of the same classifier given only the cells per valid field; None where a well lacks them."""
    unknown, one = pd.Series(np.nan, index=wells.index), pd.Series(1, index=wells.index)
    count = wells.get("Metadata_Object_Count", unknown).to_numpy(np.float64)
    sites = wells.get("Metadata_Site_Count", one).to_numpy(np.float64)  # imported profiles may not tell
    if not np.isfinite(count).all() or not (sites > 0).all():
        return dict.fromkeys(SCORES)
    return _scores(cross_fit((count / sites)[:, None], y, groups, make), y)


def _interval(probability: Floats, y: Texts, groups: Texts, hold_out: str, seed: int) -> dict:
    """Percentile bootstrap of the accuracy over whole groups, and what was resampled or why nothing."""
    if hold_out not in REPLICATES:
        return {"interval": f"not estimable: groups by {hold_out} are no replicates; hold out {', '.join(REPLICATES)}"}
    _, group = np.unique(groups, return_inverse=True)
    right = np.unique(y)[probability.argmax(axis=1)] == y
    n, hits = np.bincount(group), np.bincount(group, weights=right)
    if np.ptp(hits / n) == 0:
        return {"interval": f"not estimable: all {len(n)} groups by {hold_out} score alike"}
    drawn = np.random.default_rng(seed).integers(0, len(n), (N_BOOTSTRAP, len(n)))
    accuracy = hits[drawn].sum(axis=1) / n[drawn].sum(axis=1)
    low, high = np.quantile(accuracy, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    text = f"{CONFIDENCE:.0%} percentile bootstrap over {len(n)} groups by {hold_out}"
    return {"accuracy_low": float(low), "accuracy_high": float(high), "interval": text}


def _shuffle_within(y: Texts, plates: Texts, rng: np.random.Generator) -> Texts:
    """The labels permuted within each plate."""
    shuffled = y.copy()
    for plate in np.unique(plates):
        shuffled[plates == plate] = rng.permutation(y[plates == plate])
    return shuffled


def _fit_predict(X_train: Floats, y_train: Texts, X: Floats, classes: Texts, make: Make) -> Floats:
    """Probabilities of all the classes, 0 for those the training wells lack."""
    probability = np.zeros((len(X), len(classes)))
    seen = np.unique(y_train)
    if len(seen) == 1 or not len(X):
        probability[:, classes == seen[0]] = 1
    else:
        # The fit knows its own classes only, in its own order.
        estimator = make().fit(X_train, y_train)
        probability[:, np.searchsorted(classes, estimator.classes_)] = estimator.predict_proba(X)
    return probability


def _of_true_class(probability: Floats, y: Texts) -> Floats:
    """Probability given to each well's own class."""
    column = np.unique(y, return_inverse=True)[1]
    return probability[np.arange(len(y)), column]


def _conformal_quantile(score: Floats, coverage: float) -> float:
    """The ceil((n + 1) coverage)-th smallest score; infinite when n is too small for the coverage."""
    rank = int(np.ceil((len(score) + 1) * coverage))
    return float(np.sort(score)[rank - 1]) if rank <= len(score) else np.inf


def _distance_to_training(X: Floats, groups: Texts, known: npt.NDArray[np.bool_]) -> Floats:
    """Root mean square distance of each well to the nearest labelled well of another group.

    The own group is passed over for every well, labelled or not: otherwise the labelled wells, which cannot count
    themselves, would look further away than the others by construction.
    """
    distance = np.empty(len(X))
    for group in np.unique(groups):
        own = groups == group
        nearest = pairwise_distances_argmin_min(X[own], X[known & ~own])[1]
        distance[own] = nearest / np.sqrt(X.shape[1])
    return distance


def _predict(
    wells: pd.DataFrame, probability: Floats, classes: Texts, threshold: float, distance: Floats, null: Floats
) -> pd.DataFrame:
    """One row per treatment from the probabilities and distances of its wells."""
    treatment, compound = _text(wells, "Metadata_Treatment"), _text(wells, "Metadata_Compound")
    rows = []
    for name in np.unique(treatment[treatment != ""]):
        own = np.flatnonzero(treatment == name)
        p = probability[own].mean(axis=0)
        known = p.size > 0 and not np.isnan(p).any()
        best, confidence = (classes[p.argmax()], p.max()) if known else ("", np.nan)
        conform = _conformal_set(p, classes, threshold)
        rows.append((name, compound[own[0]], best, confidence, conform, _novelty(distance[own], null), len(own)))
    types = dict.fromkeys(COLUMNS, "object") | {"confidence": "float64", "novelty": "float64", "n_wells": "int64"}
    return pd.DataFrame(rows, columns=COLUMNS).astype(types)


def _conformal_set(p: Floats, classes: Texts, threshold: float) -> str:
    """Classes that conform, joined by ``|``; empty without a threshold or probabilities."""
    if np.isnan(threshold) or np.isnan(p).any():
        return ""
    return "|".join(classes[1 - p <= threshold]) or NOTHING


def _novelty(distance: Floats, null: Floats) -> float:
    """Conformal p of the mean distance; NaN below two wells."""
    if len(distance) < 2 or np.isnan(distance).any():
        return np.nan
    return float((1 + (null >= distance.mean()).sum()) / (len(null) + 1))
