"""The stage in its order: leave out, scale, select features, correct, and say what the correction did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator

from plateline.correct.context import BATCH, context_of
from plateline.correct.exclude import check_profiles, constant, missing, reasons_out, unscaled
from plateline.correct.findings import compare, confounded, lost_biology
from plateline.correct.none import Identity
from plateline.correct.select import select_features
from plateline.errors import PlatelineError
from plateline.identity import PREFIX, WELL

Make = Callable[[], BaseEstimator]


@dataclass
class Corrected:
    """What the stage makes.

    Attributes
    ----------
    profiles : DataFrame
        All metadata columns, `Metadata_Correction` (method and kind), and the kept features (float64, finite), sorted
        by plate and well, of the wells not left out.
    selection : DataFrame
        One row per feature, in the order of the input: `feature`, `kept` (bool), `reason` (empty when kept).
    left_out : DataFrame
        One row per well that is not in `profiles`: `Metadata_Plate`, `Metadata_Well`, `reason`.
    mixing : DataFrame
        As `mixing_table` makes it; before is a z score over all wells.
    warnings : list of str
        Sentences for the ledger.
    """

    profiles: pd.DataFrame
    selection: pd.DataFrame
    left_out: pd.DataFrame
    mixing: pd.DataFrame
    warnings: list[str] = field(default_factory=list)


def correct_profiles(
    profiles: pd.DataFrame,
    corrector: Make,
    *,
    scale: Make = Identity,
    min_controls: int,
    drop: Sequence[str] = (),
    blocklist: Sequence[str] = (),
    select: Mapping[str, Any] | None = None,
) -> Corrected:
    """All wells scaled, reduced to the features worth keeping, and corrected.

    Parameters
    ----------
    profiles : DataFrame
        One row per well of all plates: metadata (`Metadata_Plate`, `Metadata_Well`, `Metadata_Status`,
        `Metadata_ControlType` and any others) and numeric features. A feature that a plate lacks is NaN there.
    corrector : callable
        Called without arguments, gives an unfitted estimator with ``kind``: ``inductive`` (``fit(X, wells)`` on the
        negative controls, ``transform(X, wells)``) or ``transductive`` (``fit_transform(X, wells)`` on all wells).
    scale : callable
        The same, for the scaling before the selection; not used where the corrector itself ``scales``.
    min_controls : int
        Fewest negative control wells with status ``ok`` that a plate needs, at least 0; counted for each cell line and
        time point.
    drop : sequence of str
        Parts of names, with case; a feature whose name holds one of them is dropped.
    blocklist : sequence of str
        Whole names of features to drop.
    select : mapping
        Keywords of `select_features`.

    Returns
    -------
    Corrected

    Raises
    ------
    PlatelineError
        If a column is missing, a feature is not numeric, a well stands twice, or a kind is unknown.

    Notes
    -----
    Wells with a status other than ``ok`` and wells of control type ``exclude`` are left out and decide nothing. A
    feature is dropped for the first of: its name; no value on some plate; a value that is not finite; no scale on some
    plate; the same value in all wells; then the steps of `select_features`. A method for batches is passed over where
    there is one batch, with a warning.
    """
    features = check_profiles(profiles)
    wells = profiles.sort_values(WELL, kind="stable", ignore_index=True)
    reasons = reasons_out(wells, min_controls)
    left_out = wells.loc[reasons != "", WELL].assign(reason=reasons[reasons != ""])
    wells = wells[reasons == ""].reset_index(drop=True)
    negative = (wells["Metadata_ControlType"] == "negative").to_numpy()
    dropped = dict.fromkeys([f for f in features if f in set(blocklist)], "on the blocklist")
    dropped |= {f: f"name holds {part}" for part in reversed(drop) for f in features if part in f and f not in dropped}
    dropped |= missing(wells, [f for f in features if f not in dropped])
    context = context_of(wells)
    if getattr(corrector(), "scales", False):
        scale, corrector = corrector, Identity
    scaled = _apply(scale, wells[[f for f in features if f not in dropped]], negative, context)
    for find in (unscaled, constant):
        dropped |= find(scaled, wells)
        scaled = scaled.drop(columns=[f for f in scaled if f in dropped])
    dropped |= select_features(scaled, negative, **(select or {})) if scaled.size else {}
    scaled = scaled.drop(columns=[f for f in scaled if f in dropped])
    corrected, warnings = _correct(corrector, scaled, negative, context)
    dropped |= unscaled(corrected, wells)
    corrected = corrected.drop(columns=[f for f in corrected if f in dropped])
    mixing = compare(wells, wells[[f for f in scaled if f not in dropped]], corrected)
    made = _assemble(wells, corrected, [scale(), corrector()])
    selection = pd.DataFrame({"feature": features, "reason": [dropped.get(f, "") for f in features]}, dtype=object)
    selection.insert(1, "kept", selection["reason"] == "")
    warnings += confounded(wells) + lost_biology(mixing)
    return Corrected(made, selection, left_out.reset_index(drop=True), mixing, warnings)


def _apply(make: Make, X: pd.DataFrame, negative: npt.NDArray[np.bool_], context: pd.DataFrame) -> pd.DataFrame:
    """The wells corrected by an estimator that is shown no more than its kind allows."""
    estimator, values = make(), X.to_numpy(np.float64)
    kind = getattr(estimator, "kind", None)
    if not X.size:
        return X.astype(np.float64)
    if kind == "inductive":
        estimator.fit(values[negative], context[negative].reset_index(drop=True))
        made = estimator.transform(values, context)
    elif kind == "transductive":
        made = estimator.fit_transform(values, context)
    else:
        msg = f"corrector {type(estimator).__name__} is of kind {kind!r}; expected inductive or transductive"
        raise PlatelineError(msg)
    names = estimator.get_feature_names_out(list(X)) if hasattr(estimator, "get_feature_names_out") else list(X)
    return pd.DataFrame(made, index=X.index, columns=names)


def _correct(
    make: Make, scaled: pd.DataFrame, negative: npt.NDArray[np.bool_], context: pd.DataFrame
) -> tuple[pd.DataFrame, list[str]]:
    """The scaled wells corrected, and a warning where a method for batches has one batch."""
    answer = getattr(make(), "one_batch", "")
    names = list(context[BATCH].unique())
    if not answer or len(names) != 1:
        return _apply(make, scaled, negative, context), []
    warning = f"{type(make()).__name__} needs two batches and was given one ({names[0]}): profiles are {answer}"
    passed = answer == "passed through"
    return (scaled if passed else _apply(make, scaled, negative, context)), [warning]


def _assemble(wells: pd.DataFrame, corrected: pd.DataFrame, estimators: list[BaseEstimator]) -> pd.DataFrame:
    """Metadata, what was done to the profiles, and the corrected features."""
    metadata = wells[[c for c in wells if c.startswith(PREFIX)]]
    done = [type(e).__name__ for e in estimators if not isinstance(e, Identity)]
    transductive = any(e.kind == "transductive" for e in estimators)
    told = f"{', '.join(done) or 'none'}: {'transductive' if transductive else 'inductive'}"
    return pd.concat([metadata.assign(Metadata_Correction=told), corrected], axis=1)
