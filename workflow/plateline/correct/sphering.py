"""Method `sphering`: directions in which negative controls vary count less, by covariance and eigenvectors."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import PLATE, Floats
from plateline.errors import ConfigError, PlatelineError

VARIANTS = ("ZCA", "ZCA-cor", "PCA")
# Ridges tried by `auto`, as shares of the mean variance of a feature.
RIDGES = tuple(np.logspace(-4, 1, 16))
# Rows at a time: the working memory stays at some megabytes whatever the number of wells.
BLOCK = 8192
MAX_FOLDS = 5


class Sphering(TransformerMixin, BaseEstimator):
    """Whitening by the covariance of the negative controls of all plates.

    Parameters
    ----------
    variant : {'ZCA', 'ZCA-cor', 'PCA'}
        ``ZCA`` stays as near to the features as whitening can; ``ZCA-cor`` does so after scaling each to variance 1;
        ``PCA`` gives components, most varying first.
    ridge : float or 'auto'
        Added to every eigenvalue of the covariance, above 0. ``auto`` takes the one under which held-out plates of
        controls are likeliest: no label is looked at.

    Attributes
    ----------
    kind : str
        ``inductive``: fitted on control wells, transforms any.
    mean_ : ndarray, shape (D,)
    matrix_ : ndarray, shape (D, D)
        Wells become ``(X - mean_) @ matrix_``.
    ridge_ : float
        The ridge that was used.

    Notes
    -----
    Never an (N, N) matrix, and fewer controls than features are no obstacle: the ridge stands in for directions that
    the controls do not show. float32 stays float32, everything else becomes float64.

    References
    ----------
    Kessy et al. 2018, https://doi.org/10.1080/00031305.2016.1277159
    """

    kind = "inductive"

    def __init__(self, *, variant: Literal["ZCA", "ZCA-cor", "PCA"] = "ZCA", ridge: float | str = "auto"):
        self.variant = variant
        self.ridge = ridge

    def fit(self, X: npt.ArrayLike, wells: pd.DataFrame | None = None) -> "Sphering":
        """Learn mean and matrix from control wells.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            Control wells by features, finite, N at least 2.
        wells : DataFrame, optional
            N rows of `context_of`; its plates are what ``auto`` holds out. Without it, every row is its own plate.

        Returns
        -------
        Sphering
            Itself.

        Raises
        ------
        ConfigError
            If `variant` or `ridge` cannot be meant.
        PlatelineError
            If there are fewer than two control wells.
        """
        X = _floats(X)
        self._check(len(X))
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        covariance = covariance_of(X, self.mean_)
        scale = np.ones(len(covariance))
        if self.variant == "ZCA-cor":
            variance = np.diag(covariance)
            scale = np.sqrt(np.where(variance > 0, variance, 1.0))
            covariance = covariance / np.outer(scale, scale)
        plates = np.arange(len(X)) if wells is None else wells[PLATE].to_numpy()
        self.ridge_ = likeliest_ridge((X - self.mean_) / scale, plates) if self.ridge == "auto" else float(self.ridge)
        values, vectors = np.linalg.eigh(covariance)
        whiten = vectors / np.sqrt(np.maximum(values, 0) + self.ridge_)
        # Components from the most varying down; their sign is fixed by the largest loading.
        rotate = _signed(whiten)[:, ::-1] if self.variant == "PCA" else whiten @ vectors.T
        self.matrix_ = (rotate / scale[:, None]).astype(X.dtype)
        self.mean_ = self.mean_.astype(X.dtype)
        return self

    def transform(self, X: npt.ArrayLike, wells: pd.DataFrame | None = None, *, copy: bool = True) -> npt.NDArray:
        """Wells whitened.

        Parameters
        ----------
        X : array_like of float, shape (M, D)
            Any wells; float32 stays float32.
        wells : DataFrame, optional
            Not used.
        copy : bool
            False writes over `X` and needs no more memory than a block; for an array of floats only.

        Returns
        -------
        ndarray, shape (M, D)
        """
        X = _floats(X)
        whitened = np.empty_like(X) if copy else X
        for start in range(0, len(X), BLOCK):
            rows = slice(start, start + BLOCK)
            whitened[rows] = (X[rows] - self.mean_) @ self.matrix_
        return whitened

    def get_feature_names_out(self, names: list[str]) -> list[str]:
        """The names of the features, or of components: ``Sphering_PC001`` and on."""
        return [f"Sphering_PC{i + 1:03d}" for i in range(len(names))] if self.variant == "PCA" else list(names)

    def _check(self, n: int) -> None:
        if self.variant not in VARIANTS:
            msg = f"correct.sphering.variant is {self.variant!r}; expected one of {', '.join(VARIANTS)}"
            raise ConfigError(msg)
        if self.ridge != "auto" and not (isinstance(self.ridge, int | float) and self.ridge > 0):
            msg = f"ridge of the whitening is {self.ridge!r}; expected a number above 0, or auto"
            raise ConfigError(msg)
        if n < 2:
            msg = f"whitening was given {n} control wells; expected at least 2; set correct.method to standardize"
            raise PlatelineError(msg)


def covariance_of(X: npt.NDArray, mean: Floats) -> Floats:
    """Sample covariance (D, D) of the rows of X (N, D), N at least 2, block by block; float64."""
    total = np.zeros((X.shape[1], X.shape[1]))
    for start in range(0, len(X), BLOCK):
        centered = X[start : start + BLOCK] - mean.astype(X.dtype)
        total += centered.T @ centered
    return total / (len(X) - 1)


def likeliest_ridge(X: npt.NDArray, plates: npt.ArrayLike) -> float:
    """The ridge under which held-out plates of controls are likeliest as a normal sample.

    Parameters
    ----------
    X : ndarray of float, shape (N, D)
        Control wells, centred.
    plates : array_like, shape (N,)
        Plates are held out whole, in at most five folds; with one plate, its wells are.

    Returns
    -------
    float
        One of `RIDGES` times the mean variance of a feature; the smallest of equals.
    """
    _, plate = np.unique(np.asarray(plates), return_inverse=True)
    plate = plate if plate.max() > 0 else np.arange(len(X))
    fold = plate % min(MAX_FOLDS, plate.max() + 1)
    ridges = np.array(RIDGES) * max(float(X.var(axis=0).mean()), np.finfo(float).tiny)
    likelihood = np.zeros(len(ridges))
    for held in np.unique(fold):
        train, test = X[fold != held], X[fold == held]
        mean = train.mean(axis=0, dtype=np.float64)
        if len(train) < 2:
            continue
        values, vectors = np.linalg.eigh(covariance_of(train, mean))
        square = ((test - mean) @ vectors) ** 2  # (n, D)
        shrunk = np.maximum(values, 0) + ridges[:, None]  # (R, D)
        likelihood -= (np.log(shrunk) * len(test) + square.sum(axis=0) / shrunk).sum(axis=1)
    return float(ridges[likelihood.argmax()])


def _floats(X: npt.ArrayLike) -> npt.NDArray:
    """The array as it is where it is float32 or float64, else as float64."""
    X = np.asarray(X)
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)


def _signed(vectors: Floats) -> Floats:
    """Columns with their largest entry positive, so that a component does not turn round between machines."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1.0, 1.0)
