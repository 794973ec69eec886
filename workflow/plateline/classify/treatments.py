"""The stage: mechanism, confidence, set and novelty of every treatment, and what the answers are worth."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from plateline.classify import calibration
from plateline.classify.baselines import SCORES, baselines, scores_of
from plateline.classify.labels import (
    NEGATIVE,
    WELL_COUNT,
    Bools,
    Floats,
    Texts,
    average_treatments,
    check_profiles,
    class_sets,
    membership,
    text_of,
)
from plateline.classify.novelty import distances, leave_class_out_auroc, nearest_of_others, novelty_p
from plateline.classify.splits import (
    HOLD_OUT,
    REPLICATES,
    Make,
    cross_fit,
    fit_predict,
    hold_out_groups,
    leave_out,
)
from plateline.errors import ConfigError, PlatelineError
from plateline.identity import features_of

COLUMNS = ["Metadata_Treatment", "Metadata_Compound", "mechanism", "confidence", "set", "novelty", "call", "n_wells"]
# The set to which nothing conforms, and the answer for what resembles nothing.
NOTHING, UNKNOWN = "none", "unknown"
LEVELS = ("well", "treatment")
DOUBT = (
    *("brier", "brier_constant", "log_loss_constant", "risk_coverage_area"),
    *("calibration_error", "calibration_error_low", "calibration_error_high"),
    *("set_coverage", "set_coverage_low", "set_coverage_high", "set_size"),
    *("novelty_auroc", "novelty_p_floor"),
)


@dataclass(frozen=True)
class Rows:
    """Wells or treatments: features (N, D), classes (N, K), groups to hold out, and which classes can be held out."""

    table: pd.DataFrame
    X: Floats
    Y: Bools
    classes: Texts
    groups: list[Texts]
    wide: Bools  # (K,)
    direction: bool

    @property
    def known(self) -> Bools:
        """Rows with a class (N,)."""
        return np.any(self.Y, axis=1)

    @property
    def scored(self) -> Bools:
        """Rows with a class that can be held out (N,)."""
        return np.any(self.Y[:, self.wide], axis=1)


def classify_treatments(
    profiles: pd.DataFrame,
    make: Make,
    *,
    hold_out: str,
    coverage: float,
    seed: int,
    level: str = "well",
    negative_class: bool = True,
) -> tuple[pd.DataFrame, dict]:
    """Mechanism, confidence, conformal set and novelty of every treatment, and how far to trust them.

    Parameters
    ----------
    profiles : DataFrame
        Corrected profiles of all plates, one row per well, features finite. Classes are `Metadata_MoA` of control and
        reference wells where there is any, a list joined by ``|``; else `ControlType`, ``positive`` against
        ``negative``. Wells without treatment or of type ``exclude`` are passed over.
    make : callable
        Called without arguments, gives an unfitted estimator.
    hold_out : str
        What is held out together, a key of `HOLD_OUT`.
    coverage : float
        Wanted share of sets that hold a true class, between 0 and 1.
    seed : int
        Of the bootstrap and the shuffled labels.
    level : {'well', 'treatment'}
        What is classified: wells, or the mean profile of each treatment (within the plate or batch held out).
    negative_class : bool
        Whether negative controls without a mechanism are a class of their own; else they are passed over.

    Returns
    -------
    predictions : DataFrame
        Columns `COLUMNS`, one row per treatment, sorted. `mechanism` has the largest mean probability (`confidence`;
        the first by name of ties); labelled rows enter with their out-of-fold probabilities. `set` joins the
        conforming classes by ``|``; ``none`` where nothing conforms. `novelty` is the conformal p of the distance to
        the nearest row that taught, small for the unseen; `call` is the mechanism, or ``unknown`` where that p is at
        most 1 - `coverage`. Empty text or NaN where not estimable.
    evaluation : dict
        JSON-serialisable, None for what is not estimable: see config/README.md, `classify/evaluation.json`.

    Raises
    ------
    ConfigError
        If `hold_out` or `level` is no known word, or wells' positions are to be held out of treatments.
    PlatelineError
        If a column is missing, a feature is not finite, or a labelled row has no group.

    Notes
    -----
    Scores are over rows; one of several classes is right when any is named. A class that cannot be held out, since it
    is in one group only, is left out of the scores and named. The interval resamples compounds, plates or batches;
    rows and columns are parts of one plate and no replicates, and groups that all score alike tell a bootstrap
    nothing: no interval then.
    The set keeps the classes whose 1 - probability is at most the ceil((n + 1) coverage)-th smallest of the n scored
    rows: all classes when n is too small. In the evaluation a compound has no say in its own sets.
    Novelty is by cosine where every class does something, by distance where negative controls are a class. For wells it
    compares a treatment's mean with single labelled wells: cautious for several, NaN below two. Held out by row or
    column, labelled wells share plate and scaling with those they are compared to: read it as a rank.
    """
    rows = _rows(check_profiles(profiles), hold_out, level, negative_class)
    evaluation = _describe(rows, hold_out, level) | {"coverage": coverage}
    probability = np.full(rows.Y.shape, np.nan)
    unknown, known, scored = ~rows.known, rows.known, rows.scored
    if len(rows.classes) > 1 and rows.X.shape[1]:
        groups = rows.groups[0][known]
        probability[unknown] = fit_predict(rows.X[known], rows.Y[known], groups, rows.X[unknown], make)
    far, threshold = np.full(len(rows.X), np.nan), np.nan
    if evaluation["status"] == "ok":
        found, results = _evaluate(rows, make, hold_out, coverage, seed)
        probability[np.ix_(scored, rows.wide)], probability[np.ix_(scored, ~rows.wide)] = found, 0
        score = 1 - np.where(rows.Y[scored], probability[scored], -np.inf).max(axis=1)
        threshold = calibration.conformal_quantile(score, coverage)
        far = nearest_of_others(distances(rows.X, known, direction=rows.direction), rows.groups, known)
        evaluation |= results | {"novelty_p_floor": 1 / (int(known.sum()) + 1)}
    return _predict(rows, probability, threshold, far, level, coverage), evaluation


def warnings_of(evaluation: dict) -> list[str]:
    """Sentences for the ledger: why there are no scores, what was left out of them, and what does as well."""
    if evaluation["status"] != "ok":
        return [evaluation["reason"]]
    said = []
    if evaluation["classes_left_out"]:
        named = ", ".join(evaluation["classes_left_out"])
        said.append(f"{named}: in fewer than two groups by {evaluation['hold_out']}, left out of the scores")
    accuracy = evaluation["balanced_accuracy"]
    for name, scores in evaluation["baselines"].items():
        if scores["balanced_accuracy"] is not None and scores["balanced_accuracy"] >= accuracy:
            baseline = name.replace("_", " ")
            said.append(
                f"the baseline {baseline} does as well as the classifier: balanced accuracy "
                f"{scores['balanced_accuracy']:.2f} and {accuracy:.2f}"
            )
    return said


def _rows(wells: pd.DataFrame, hold_out: str, level: str, negative_class: bool) -> Rows:
    """Wells or treatments with their classes and groups."""
    if level not in LEVELS:
        msg = f"classify.level is {level!r}; expected one of {', '.join(LEVELS)}"
        raise ConfigError(msg)
    if level == "treatment" and hold_out in ("row", "column"):
        msg = f"classify.hold_out {hold_out!r} needs classify.level well: a treatment's wells stand in several of them"
        raise ConfigError(msg)
    if not negative_class:
        wells = wells[wells["Metadata_ControlType"] != NEGATIVE].reset_index(drop=True)
    apart = [f"Metadata_{word}" for word in HOLD_OUT.get(hold_out, ()) if word in ("Plate", "Batch")]
    table = average_treatments(wells, [c for c in apart if c in wells]) if level == "treatment" else wells
    groups = hold_out_groups(table, hold_out)
    Y, classes = membership(class_sets(table, negative_class=negative_class))
    nameless = sum((names[Y.any(axis=1)] == "").sum() for names in groups)
    if nameless:
        column = f"Metadata_{HOLD_OUT[hold_out][0]}"
        msg = f"{nameless} labelled rows have no {column}; choose another classify.hold_out"
        raise PlatelineError(msg)
    wide = np.array([all(len(set(names[Y[:, k]])) > 1 for names in groups) for k in range(len(classes))], bool)
    X = table[features_of(list(table))].to_numpy(np.float64)
    return Rows(table, X, Y, classes, groups, wide, NEGATIVE not in classes)


def _describe(rows: Rows, hold_out: str, level: str) -> dict:
    """The evaluation without scores: what was labelled, and why it cannot be scored."""
    Y, classes = rows.Y, rows.classes
    counts = dict(zip(classes.tolist(), Y.sum(axis=0).tolist(), strict=True))
    narrow = classes[~rows.wide].tolist()
    reason = ""
    if not rows.X.shape[1]:
        reason = "not estimable: the profiles have no feature"
    elif len(classes) < 2:
        reason = f"not estimable: {len(classes)} class among the control wells ({', '.join(classes)}), 2 needed"
    elif len(classes) - len(narrow) < 2:
        reason = f"not estimable: wells of {', '.join(narrow)} in fewer than two groups by {hold_out}"
    correction = text_of(rows.table, "Metadata_Correction")
    return {
        "status": "not estimable" if reason else "ok",
        "reason": reason,
        "level": level,
        "n": int(rows.scored.sum() if not reason else rows.known.sum()),
        "n_groups": len(set(zip(*(names[rows.known] for names in rows.groups), strict=True))),
        "hold_out": hold_out,
        "correction": correction[0] if len(correction) else "",
        "classes": counts,
        "classes_left_out": [] if reason else narrow,
        **dict.fromkeys([*SCORES, "accuracy_low", "accuracy_high", *DOUBT]),
        "interval": "",
        "novelty_by_class": {},
        "baselines": {},
    }


def _evaluate(rows: Rows, make: Make, hold_out: str, coverage: float, seed: int) -> tuple[Floats, dict]:
    """Out-of-fold probabilities of the scored rows and of the classes that can be held out, and all scores."""
    scored, wide = rows.scored, rows.wide
    Y, groups = rows.Y[scored][:, wide], [names[scored] for names in rows.groups]
    splits, table = leave_out(groups), rows.table[scored]
    probability = cross_fit(rows.X[scored], Y, splits, make, groups[0])
    probability = np.where(np.isnan(probability), 1 / Y.shape[1], probability)
    distance = distances(rows.X[scored], np.ones(len(Y), bool), direction=rows.direction)
    areas = leave_class_out_auroc(distance, Y, groups[0])
    named = {name: area for name, area in zip(rows.classes[wide].tolist(), areas, strict=True) if area == area}
    answer = {
        **scores_of(probability, Y),
        **_interval(probability, Y, groups[0], hold_out, seed),
        **_doubt(probability, Y, groups[0], coverage, seed),
        "novelty_auroc": float(np.mean(list(named.values()))) if named else None,
        "novelty_by_class": named,
        "baselines": baselines(table, Y, splits, groups[0], make, seed),
    }
    return probability, answer


def _interval(probability: Floats, Y: Bools, groups: Texts, hold_out: str, seed: int) -> dict:
    """Bootstrap of the accuracy over whole groups, and what was resampled or why nothing."""
    word = HOLD_OUT[hold_out][0]
    if word not in REPLICATES:
        words = ", ".join(name for name, columns in HOLD_OUT.items() if columns[0] in REPLICATES)
        return {"interval": f"not estimable: groups by {hold_out} are no replicates; hold out {words}"}
    right = calibration.is_right(probability, Y)
    names, group = np.unique(groups, return_inverse=True)
    if np.ptp(np.bincount(group, weights=right) / np.bincount(group)) == 0:
        return {"interval": f"not estimable: all {len(names)} groups by {word.lower()} score alike"}
    low, high = calibration.bootstrap_interval(lambda drawn: right[drawn].mean(), groups, seed)
    text = f"{calibration.CONFIDENCE:.0%} percentile bootstrap over {len(names)} groups by {word.lower()}"
    return {"accuracy_low": low, "accuracy_high": high, "interval": text}


def _doubt(probability: Floats, Y: Bools, groups: Texts, coverage: float, seed: int) -> dict:
    """How far the confidence, the sets and their order can be trusted."""
    confidence, right = probability.max(axis=1), calibration.is_right(probability, Y)
    constant = calibration.constant_confidence(probability, Y)
    sets = calibration.cross_conformal(probability, Y, groups, coverage)
    held = np.any(sets & Y, axis=1)
    error = calibration.bootstrap_interval(
        lambda drawn: calibration.calibration_error(confidence[drawn], right[drawn]), groups, seed
    )
    span = calibration.bootstrap_interval(lambda drawn: held[drawn].mean(), groups, seed)
    return {
        "brier": float(calibration.brier(probability, Y).mean()),
        "brier_constant": float(calibration.brier(constant, Y).mean()),
        "log_loss_constant": calibration.log_loss(constant, Y),
        "risk_coverage_area": calibration.risk_coverage_area(confidence, right),
        "calibration_error": calibration.calibration_error(confidence, right),
        **dict(zip(("calibration_error_low", "calibration_error_high"), error, strict=True)),
        "set_coverage": float(held.mean()),
        **dict(zip(("set_coverage_low", "set_coverage_high"), span, strict=True)),
        "set_size": float(sets.sum(axis=1).mean()),
    }


def _predict(
    rows: Rows, probability: Floats, threshold: float, far: Floats, level: str, coverage: float
) -> pd.DataFrame:
    """One row per treatment from the probabilities and distances of its rows."""
    treatment, compound = text_of(rows.table, "Metadata_Treatment"), text_of(rows.table, "Metadata_Compound")
    n_wells = rows.table.get(WELL_COUNT, pd.Series(1, index=rows.table.index)).to_numpy()
    null, lines = far[rows.known], []
    for name in np.unique(treatment[treatment != ""]):
        own = np.flatnonzero(treatment == name)
        p = probability[own].mean(axis=0)
        known = p.size > 0 and not np.isnan(p).any()
        best, confidence = (rows.classes[p.argmax()], p.max()) if known else ("", np.nan)
        conform = _conformal_set(p, rows.classes, threshold)
        novelty = novelty_p(far[own], null) if len(own) > 1 or level == "treatment" else np.nan
        call = UNKNOWN if best and novelty <= 1 - coverage else best
        lines.append((name, compound[own[0]], best, confidence, conform, novelty, call, n_wells[own].sum()))
    types = dict.fromkeys(COLUMNS, "object") | {"confidence": "float64", "novelty": "float64", "n_wells": "int64"}
    return pd.DataFrame(lines, columns=COLUMNS).astype(types)


def _conformal_set(p: Floats, classes: Texts, threshold: float) -> str:
    """Classes that conform, joined by ``|``; empty without a threshold or probabilities."""
    if np.isnan(threshold) or np.isnan(p).any():
        return ""
    return "|".join(name for name, share in zip(classes, p, strict=True) if 1 - share <= threshold) or NOTHING
