"""Classifiers of scikit-learn, as they are, on standardised features."""

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from plateline.classify.labels import Floats


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


def lda(*, seed: int) -> Pipeline:
    """Linear discriminant analysis; the covariance is shrunken as Ledoit and Wolf do, so D may exceed N. No chance."""
    return make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


def forest(*, n_trees: int, seed: int) -> RandomForestClassifier:
    """Random forest of `n_trees` trees."""
    return RandomForestClassifier(n_estimators=n_trees, random_state=seed)


def boosting(*, n_rounds: int, learning_rate: float, seed: int) -> HistGradientBoostingClassifier:
    """Gradient boosting on histograms, `n_rounds` rounds; leaves of at least 5 rows, since classes are small."""
    return HistGradientBoostingClassifier(
        max_iter=n_rounds, learning_rate=learning_rate, min_samples_leaf=5, early_stopping=False, random_state=seed
    )


def svm(*, C: float, seed: int) -> Pipeline:
    """Support vector machine with a radial kernel; `C` is the inverse strength of the penalty. No chance."""
    return make_pipeline(StandardScaler(), SupportVectors(C=C))


class SupportVectors(ClassifierMixin, BaseEstimator):
    """A support vector machine whose probabilities are the softmax of its decision values.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, above 0.

    Notes
    -----
    Platt's scaling would hold out single wells, replicates of those it learns from. The softmax keeps the order, and
    `classify.temperature` makes it sure as far as held-out compounds say it may be.
    """

    def __init__(self, *, C: float):
        self.C = C

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike) -> "SupportVectors":
        """Fit on X (N, D) float and y (N,) classes, at least two."""
        self.machine_ = SVC(C=self.C, decision_function_shape="ovr").fit(X, y)
        self.classes_ = self.machine_.classes_
        return self

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Probabilities (M, K) in the order of ``classes_``."""
        decision = self.machine_.decision_function(X)
        score = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
        weight = np.exp(score - score.max(axis=1, keepdims=True))
        return weight / weight.sum(axis=1, keepdims=True)
