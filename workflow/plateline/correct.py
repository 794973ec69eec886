"""Profiles made comparable between plates: scaled on each plate's negative controls, features selected.

Owns the correctors, the selection of features, and who is left out and why. A corrector is a scikit-learn estimator
declared by its attribute ``kind``: an ``inductive`` one is fitted on named rows (here the negative control wells of one
plate) and transforms the others, so no sample well has a say in the scale of another. Labels are never seen.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.errors import PlatelineError
from plateline.identity import PREFIX, WELL, features_of

# MAD times this is the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826
# A spread below this share of the centre is the rounding of float32 sums, not biology.
MIN_RELATIVE_SPREAD = 1e-9
NEEDED = [*WELL, "Metadata_Status", "Metadata_ControlType"]

Floats = npt.NDArray[np.float64]


class Standardize(TransformerMixin, BaseEstimator):
    """Mean and sample standard deviation of the controls: z scores.

    Attributes
    ----------
    kind : str
        ``inductive``.
    center_, scale_ : ndarray of float64, shape (D,)
        Mean and standard deviation (N - 1); a feature without spread has scale 0 and becomes NaN.

    Notes
    -----
    A feature with a value that is not finite among the controls becomes NaN as a whole: it has no known scale.
    """

    kind = "inductive"

    def fit(self, X: npt.ArrayLike, y: None = None) -> "Standardize":
        """Learn centre and scale from control wells.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            Control wells by features; N at least 2.
        y : None
            Ignored.

        Returns
        -------
        Standardize
            Itself.

        Raises
        ------
        PlatelineError
            If there are fewer than two control wells.
        """
        controls = _controls(X, type(self).__name__)
        self.center_ = controls.mean(axis=0)
        self.scale_ = _spread_or_zero(controls.std(axis=0, ddof=1), self.center_)
        return self

    def transform(self, X: npt.ArrayLike) -> Floats:
        """Wells in units of the controls' spread.

        Parameters
        ----------
        X : array_like of float, shape (M, D)
            Any wells of the same plate.

        Returns
        -------
        ndarray of float64, shape (M, D)
            (X - center_) / scale_; NaN where the scale is 0.
        """
        return (np.asarray(X, np.float64) - self.center_) / np.where(self.scale_ == 0, np.nan, self.scale_)


class MadRobustize(Standardize):
    """Median and 1.4826 MAD of the controls: robust z scores.

    Attributes
    ----------
    kind : str
        ``inductive``.
    center_, scale_ : ndarray of float64, shape (D,)
        Median and 1.4826 times the median absolute deviation. More than half of the controls at one value give scale
        0, and the feature becomes NaN.
    """

    def fit(self, X: npt.ArrayLike, y: None = None) -> "MadRobustize":
        """Learn centre and scale from control wells, (N, D), as `Standardize.fit` does."""
        controls = _controls(X, type(self).__name__)
        self.center_ = np.median(controls, axis=0)
        mad = np.median(np.abs(controls - self.center_), axis=0)
        self.scale_ = _spread_or_zero(MAD_TO_SD * mad, self.center_)
        return self


class Identity(TransformerMixin, BaseEstimator):
    """Profiles as they are, for profiles that were corrected elsewhere (method ``none``)."""

    kind = "inductive"

    def fit(self, X: npt.ArrayLike, y: None = None) -> "Identity":
        """Learn nothing; X may have no rows."""
        return self

    def transform(self, X: npt.ArrayLike) -> Floats:
        """A float64 copy of the values, (M, D)."""
        return np.array(X, np.float64)


def correct_profiles(
    profiles: pd.DataFrame,
    corrector: Callable[[], BaseEstimator],
    *,
    min_controls: int,
    max_correlation: float,
    drop: Sequence[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All wells corrected plate by plate, the verdict on every feature, and the wells left out.

    Parameters
    ----------
    profiles : DataFrame
        One row per well of all plates: metadata (`Metadata_Plate`, `Metadata_Well`, `Metadata_Status`,
        `Metadata_ControlType` and any others) and numeric features. A feature that a plate lacks is NaN there.
    corrector : callable
        Called without arguments, gives an unfitted estimator with ``kind``, ``fit`` and ``transform``.
    min_controls : int
        Fewest negative control wells with status ``ok`` that make a scale, at least 0.
    max_correlation : float
        Largest absolute Pearson correlation between two features that are both kept, 0 to 1.
    drop : sequence of str
        Parts of names, with case; a feature whose name holds one of them is dropped.

    Returns
    -------
    corrected : DataFrame
        All metadata columns and the kept features (float64, finite), sorted by plate and well, of the wells not left
        out.
    selection : DataFrame
        One row per feature, in the order of `profiles`: `feature`, `kept` (bool), `reason` (empty when kept).
    left_out : DataFrame
        One row per well that is not in `corrected`: `Metadata_Plate`, `Metadata_Well`, `reason`.

    Raises
    ------
    PlatelineError
        If a column is missing or a feature is not numeric, or the corrector is not ``inductive``.

    Notes
    -----
    Wells with a status other than ``ok`` and wells of control type ``exclude`` are left out and decide nothing. A
    feature is dropped for the first of: its name; no value on some plate; a value that is not finite; no spread among
    the negative controls of some plate; the same value in all wells; correlation with a feature before it. The last
    looks at all corrected wells, without labels, as pycytominer does: a sample well may change which features are kept,
    never the values of other wells.
    """
    features = _check(profiles)
    wells = profiles.sort_values(WELL, kind="stable", ignore_index=True)
    reasons = _reasons_out(wells, min_controls)
    left_out = wells.loc[reasons != "", WELL].assign(reason=reasons[reasons != ""])
    wells = wells[reasons == ""].reset_index(drop=True)
    dropped = {f: f"name holds {part}" for part in reversed(drop) for f in features if part in f}
    dropped |= _missing(wells, [f for f in features if f not in dropped])
    corrected = _by_plate(wells, [f for f in features if f not in dropped], corrector)
    for find in (_unscaled, _constant, partial(_redundant, max_correlation=max_correlation)):
        found = find(corrected, wells)
        dropped |= found
        corrected = corrected.drop(columns=list(found))
    selection = pd.DataFrame({"feature": features, "reason": [dropped.get(f, "") for f in features]}, dtype=object)
    selection.insert(1, "kept", selection["reason"] == "")
    metadata = [c for c in wells if c.startswith(PREFIX)]
    return pd.concat([wells[metadata], corrected], axis=1), selection, left_out.reset_index(drop=True)


def correlated(X: npt.ArrayLike, max_correlation: float) -> npt.NDArray[np.intp]:
    """For each feature the kept feature that makes it redundant, or -1 where it is kept itself.

    Parameters
    ----------
    X : array_like of float64, shape (N, D)
        Wells by features, finite, no feature constant.
    max_correlation : float
        Features whose absolute Pearson correlation is larger are a pair, 0 to 1.

    Returns
    -------
    ndarray of intp, shape (D,)
        -1, or the index of the kept feature before it with the largest absolute correlation (the first of ties).

    Notes
    -----
    Greedy in the order of the features: of a pair the later goes, and a feature that went makes no other go. All
    features are kept when there are fewer than two wells.

    Examples
    --------
    >>> correlated([[0, 0, 1], [1, 2, 0], [2, 4, 1]], 0.9)
    array([-1,  0, -1])
    """
    X = np.asarray(X, np.float64)
    partner = np.full(X.shape[1], -1, np.intp)
    if len(X) < 2:
        return partner
    centered = X - X.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=0)
    # Rounding may lift a correlation above 1, which would drop a feature even at max_correlation 1.
    r = np.minimum(np.abs(centered.T @ centered), 1)  # (D, D)
    kept = np.zeros(len(partner), bool)
    for i in range(len(partner)):
        before = np.where(kept[:i], r[i, :i], -1)
        if i and before.max() > max_correlation:
            partner[i] = before.argmax()
        else:
            kept[i] = True
    return partner


def _check(profiles: pd.DataFrame) -> list[str]:
    """The features, after refusing a table that cannot be corrected."""
    missing = [c for c in NEEDED if c not in profiles]
    if missing:
        msg = f"profiles lack the columns {missing}; they have {list(profiles)[:10]}; rerun rule profile_plate"
        raise PlatelineError(msg)
    features = features_of(list(profiles))
    text = [c for c in features if not pd.api.types.is_numeric_dtype(profiles[c])]
    if text and len(profiles):
        got = profiles[text[0]].dtype
        msg = f"features {text[:5]} of the profiles have dtype {got}; expected numbers; prefix metadata with {PREFIX}"
        raise PlatelineError(msg)
    return features


def _reasons_out(wells: pd.DataFrame, min_controls: int) -> pd.Series:
    """Why each well is left out; empty text for those that stay."""
    excluded = wells["Metadata_ControlType"] == "exclude"
    usable = (wells["Metadata_Status"] == "ok") & ~excluded
    negative = usable & (wells["Metadata_ControlType"] == "negative")
    controls = negative.groupby(wells["Metadata_Plate"]).transform("sum")
    short = usable & (controls < min_controls)
    reasons = pd.Series("", index=wells.index, dtype=object)
    reasons[~usable] = "well status " + wells["Metadata_Status"].astype(str)
    reasons[excluded] = "control type exclude"
    reasons[short] = "plate has " + controls.astype(str) + f" negative control wells, {min_controls} needed"
    return reasons


def _missing(wells: pd.DataFrame, features: list[str]) -> dict[str, str]:
    """Features that a plate lacks or that are not finite somewhere, with the reason; all when there is no well."""
    if wells.empty:
        return dict.fromkeys(features, "no well left to correct")
    finite = pd.DataFrame(np.isfinite(wells[features].to_numpy(np.float64)), columns=features)
    on_plate = finite.groupby(wells["Metadata_Plate"]).any()
    found = {}
    for feature in finite.columns[~finite.all()]:
        lacking = list(on_plate.index[~on_plate[feature]])
        plate, well = wells.loc[finite[feature].idxmin(), WELL]
        not_finite = f"not finite in {(~finite[feature]).sum()} wells, the first {plate} {well}"
        found[feature] = f"no value on plates {', '.join(map(str, lacking))}" if lacking else not_finite
    return found


def _by_plate(wells: pd.DataFrame, features: list[str], corrector: Callable[[], BaseEstimator]) -> pd.DataFrame:
    """The features of every well, transformed by its plate's corrector fitted on its plate's negative controls."""
    corrected = pd.DataFrame(np.nan, index=wells.index, columns=features, dtype=np.float64)
    for _, plate in wells.groupby("Metadata_Plate", sort=True):
        estimator = corrector()
        kind = getattr(estimator, "kind", None)
        if kind != "inductive":
            msg = f"corrector {type(estimator).__name__} is of kind {kind!r}; expected 'inductive': fitted on controls"
            raise PlatelineError(msg)
        values = plate[features].to_numpy(np.float64)
        estimator.fit(values[(plate["Metadata_ControlType"] == "negative").to_numpy()])
        corrected.loc[plate.index] = estimator.transform(values)
    return corrected


def _unscaled(corrected: pd.DataFrame, wells: pd.DataFrame) -> dict[str, str]:
    """Features without a scale on some plate, with the reason."""
    on_plate = pd.DataFrame(np.isfinite(corrected)).groupby(wells["Metadata_Plate"]).all()
    without = {f: on_plate.index[~on_plate[f]] for f in corrected.columns[~on_plate.all()]}
    reason = "no spread among the negative controls of plates "
    return {feature: reason + ", ".join(map(str, plates)) for feature, plates in without.items()}


def _constant(corrected: pd.DataFrame, wells: pd.DataFrame) -> dict[str, str]:
    """Features with one value in all wells, with the reason."""
    return dict.fromkeys(corrected.columns[corrected.min() == corrected.max()], "same value in all wells")


def _redundant(corrected: pd.DataFrame, wells: pd.DataFrame, *, max_correlation: float) -> dict[str, str]:
    """Features that one before them makes redundant, with the reason."""
    names = corrected.columns
    partner = correlated(corrected.to_numpy(), max_correlation)
    pairs = [(names[i], names[partner[i]]) for i in np.flatnonzero(partner >= 0)]
    return {later: f"correlation above {max_correlation:g} with {before}" for later, before in pairs}


def _controls(X: npt.ArrayLike, name: str) -> Floats:
    """Control wells as float64 with NaN for infinity, refused below two rows."""
    controls = np.asarray(X, np.float64)
    if len(controls) < 2:
        msg = f"{name} was given {len(controls)} control wells; expected at least 2; raise correct.min_controls"
        raise PlatelineError(msg)
    return np.where(np.isfinite(controls), controls, np.nan)


def _spread_or_zero(spread: Floats, center: Floats) -> Floats:
    """The spread, with rounding errors of a constant set to 0."""
    return np.where(spread <= MIN_RELATIVE_SPREAD * np.abs(center), 0.0, spread)
