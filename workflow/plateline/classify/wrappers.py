"""Wrappers over any classifier: resampling, cleaning of labels, ensembles, temperature."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from plateline.classify.labels import Floats, Texts
from plateline.classify.splits import Make, folds_of
from plateline.errors import ConfigError

RESAMPLE = ("none", "over", "under")
# Groups that an inner fit holds out at a time: one fold in ten is still nine tenths of the compounds.
MAX_FOLDS = 10
# A probability of 0 for the true class would make one row's log loss infinite.
MIN_PROBABILITY = 1e-6
# Temperatures looked at, as natural logarithms.
LOG_TEMPERATURES = (-4.0, 4.0)


def wrap(
    make: Callable[..., BaseEstimator], *, resample: str, clean: bool, ensemble: int, temperature: bool, seed: int
) -> Make:
    """A maker of the classifier with its wrappers.

    Parameters
    ----------
    make : callable
        Called with ``seed``, gives an unfitted estimator with ``predict_proba``.
    resample : {'none', 'over', 'under'}
        Rows drawn so that all classes have as many as the largest, or as the smallest.
    clean : bool
        Leave out labels that held-out fits confidently contradict.
    ensemble : int
        Members, each with its own seed, at least 1; a method without chance gains nothing from more.
    temperature : bool
        Make the answers as sure as held-out groups say they may be.
    seed : int

    Returns
    -------
    callable
        Without arguments.

    Raises
    ------
    ConfigError
        If `resample` or `ensemble` cannot be meant.
    """
    if resample not in RESAMPLE:
        msg = f"classify.resample is {resample!r}; expected one of {', '.join(RESAMPLE)}"
        raise ConfigError(msg)
    if ensemble < 1:
        msg = f"classify.ensemble is {ensemble}; expected at least 1"
        raise ConfigError(msg)

    def member(number: int) -> BaseEstimator:
        estimator = make(seed=seed + number)
        estimator = estimator if resample == "none" else Resampled(estimator, how=resample, seed=seed + number)
        return Cleaned(estimator) if clean else estimator

    def wrapped() -> BaseEstimator:
        estimator = member(0) if ensemble == 1 else Ensemble([member(number) for number in range(ensemble)])
        return Tempered(estimator) if temperature else estimator

    return wrapped


class Resampled(ClassifierMixin, BaseEstimator):
    """A classifier fitted on as many rows of each class.

    Parameters
    ----------
    estimator : estimator
    how : {'over', 'under'}
        Every class has as many rows as the largest, some drawn more than once, or as the smallest.
    seed : int
    """

    def __init__(self, estimator: BaseEstimator, *, how: str, seed: int):
        self.estimator = estimator
        self.how = how
        self.seed = seed

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> "Resampled":
        """Fit on drawn rows of X (N, D), y (N,)."""
        X, y = np.asarray(X), np.asarray(y)
        rows = balanced_rows(y, self.how, np.random.default_rng(self.seed))
        self.fitted_ = clone(self.estimator).fit(X[rows], y[rows])
        self.classes_ = self.fitted_.classes_
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``."""
        return self.fitted_.predict_proba(X)


def balanced_rows(y: npt.ArrayLike, how: str, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Rows, sorted, with as many of each class: all and some again (``over``), or some (``under``)."""
    _, label, counts = np.unique(np.asarray(y), return_inverse=True, return_counts=True)
    drawn = []
    for k, count in enumerate(counts):
        own = np.flatnonzero(label == k)
        more = rng.choice(own, counts.max() - count) if how == "over" else []
        drawn.append(np.r_[own, more] if how == "over" else rng.permutation(own)[: counts.min()])
    return np.sort(np.concatenate(drawn)).astype(np.intp)


class _Grouped(ClassifierMixin, BaseEstimator):
    """What asks its own classifier about groups it has not seen."""

    takes_groups = True

    def _fit(self, estimator: BaseEstimator, X: npt.NDArray, y: npt.NDArray, groups: Texts) -> BaseEstimator:
        more = {"groups": groups} if getattr(estimator, "takes_groups", False) else {}
        return clone(estimator).fit(X, y, **more)

    def _out_of_fold(self, estimator: BaseEstimator, X: npt.NDArray, y: npt.NDArray, groups: Texts) -> Floats:
        """Probabilities (N, K) of ``classes_`` from fits without the row's group; NaN where nothing teaches."""
        one_hot = y[:, None] == self.classes_
        fold = folds_of(one_hot, groups, MAX_FOLDS)
        probability = np.full(one_hot.shape, np.nan)
        for held in np.unique(fold):
            train, test = fold != held, fold == held
            if len(set(y[train])) > 1:
                fitted = self._fit(estimator, X[train], y[train], groups[train])
                probability[test] = 0
                columns = np.searchsorted(self.classes_, fitted.classes_)
                probability[np.ix_(test, columns)] = fitted.predict_proba(X[test])
        return probability


class Cleaned(_Grouped):
    """A classifier fitted without the labels that held-out fits confidently contradict.

    Parameters
    ----------
    estimator : estimator

    Attributes
    ----------
    kept_ : ndarray of bool, shape (N,)
        Rows that taught.

    Notes
    -----
    A class is confident in a row where its probability is at least the mean of that class's own rows. A row whose
    likeliest confident class is not its label is left out; a class is never left empty. A row of several classes
    keeps those that are confident in it.

    References
    ----------
    Northcutt et al. 2021, https://doi.org/10.1613/jair.1.12125
    """

    def __init__(self, estimator: BaseEstimator):
        self.estimator = estimator

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> "Cleaned":
        """Fit on X (N, D), y (N,); rows of one of the groups (N,) are held out together, else each row alone."""
        X, y = np.asarray(X), np.asarray(y)
        self.classes_ = np.unique(y)
        own = np.arange(len(y)).astype(str).astype(object) if groups is None else np.asarray(groups, object)
        self.kept_ = confident_rows(self._out_of_fold(self.estimator, X, y, own), y, self.classes_)
        self.fitted_ = self._fit(self.estimator, X[self.kept_], y[self.kept_], own[self.kept_])
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``."""
        return self.fitted_.predict_proba(X)


def confident_rows(probability: Floats, y: npt.NDArray, classes: npt.NDArray) -> npt.NDArray[np.bool_]:
    """Rows (N,) whose label no confident class contradicts, given out-of-fold probabilities (N, K)."""
    label = np.searchsorted(classes, y)
    known = ~np.any(np.isnan(probability), axis=1)
    kept = np.ones(len(y), bool)
    threshold = np.array(
        [
            probability[known & (label == k), k].mean() if (known & (label == k)).any() else np.inf
            for k in range(len(classes))
        ]
    )
    confident = np.where(known[:, None], np.where(probability >= threshold, probability, -1.0), -1.0)
    best = confident.argmax(axis=1)
    kept[(confident.max(axis=1) >= 0) & (best != label)] = False
    for k in range(len(classes)):
        if not kept[label == k].any():
            kept[label == k] = True
    return kept


class Ensemble(ClassifierMixin, BaseEstimator):
    """The mean of the probabilities of several fits.

    Parameters
    ----------
    members : sequence of estimators
        Of one kind, each with its own seed.

    References
    ----------
    Lakshminarayanan et al. 2017, https://doi.org/10.48550/arXiv.1612.01474
    """

    def __init__(self, members: Sequence[BaseEstimator]):
        self.members = members

    @property
    def takes_groups(self) -> bool:
        """Whether the members hold out groups."""
        return getattr(self.members[0], "takes_groups", False)

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, **more: npt.ArrayLike) -> "Ensemble":
        """Fit every member on X (N, D), y (N,)."""
        self.fitted_ = [clone(member).fit(X, y, **more) for member in self.members]
        self.classes_ = self.fitted_[0].classes_
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Mean probabilities (M, K) in the order of ``classes_``."""
        return np.mean([member.predict_proba(X) for member in self.fitted_], axis=0)


class Tempered(_Grouped):
    """A classifier whose answers are as sure as groups it has not seen say they may be.

    Parameters
    ----------
    estimator : estimator

    Attributes
    ----------
    temperature_ : float
        Probabilities go with the power 1 / temperature: above 1 the answers become less sure.

    References
    ----------
    Guo et al. 2017, https://doi.org/10.48550/arXiv.1706.04599
    """

    def __init__(self, estimator: BaseEstimator):
        self.estimator = estimator

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, groups: npt.ArrayLike | None = None) -> "Tempered":
        """Fit on X (N, D), y (N,); rows of one of the groups (N,) are held out together, else each row alone."""
        X, y = np.asarray(X), np.asarray(y)
        self.classes_ = np.unique(y)
        own = np.arange(len(y)).astype(str).astype(object) if groups is None else np.asarray(groups, object)
        held_out = self._out_of_fold(self.estimator, X, y, own)
        self.temperature_ = likeliest_temperature(held_out, np.searchsorted(self.classes_, y))
        self.fitted_ = self._fit(self.estimator, X, y, own)
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``."""
        return temper(self.fitted_.predict_proba(X), self.temperature_)


def temper(probability: Floats, temperature: float) -> Floats:
    """Probabilities (N, K) to the power 1 / `temperature`, summing to 1 again; the order of the classes stays."""
    logit = np.log(np.maximum(probability, np.finfo(float).tiny)) / temperature
    weight = np.exp(logit - logit.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def likeliest_temperature(probability: Floats, label: npt.NDArray[np.intp]) -> float:
    """The temperature of least log loss; rows (N, K) of NaN, and classes that a fit did not know, do not count."""
    own = probability[np.arange(len(label)), label]
    known = own > 0
    if not known.any():
        return 1.0

    def loss(log_temperature: float) -> float:
        tempered = temper(probability[known], np.exp(log_temperature))
        return -np.log(np.maximum(tempered[np.arange(known.sum()), label[known]], MIN_PROBABILITY)).mean()

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))
