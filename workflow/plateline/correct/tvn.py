"""Method `tvn`: whitening on the controls of all batches, then each batch's covariance is brought to the common one."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import BATCH, Floats, groups_within
from plateline.correct.sphering import Sphering, covariance_of


class TypicalVariation(TransformerMixin, BaseEstimator):
    """Typical variation normalisation: sphering, then CORAL per batch.

    Parameters
    ----------
    ridge : float or 'auto'
        Of the whitening, see `Sphering`.
    coral_ridge : float
        Added to the eigenvalues of both covariances that CORAL compares, above 0; whitened controls have variance
        near 1, so 1 halves the pull of a batch.

    Attributes
    ----------
    kind : str
        ``inductive``: fitted on control wells, transforms any.
    matrices_ : dict of str to ndarray of float64, shape (D, D)
        By batch, apart by cell line and time point.

    Notes
    -----
    Wells of a batch without at least two controls are whitened and not aligned. With one batch CORAL changes nothing.

    References
    ----------
    Ando et al. 2017, https://doi.org/10.1101/161422; Sun et al. 2016, https://doi.org/10.1609/aaai.v30i1.10306
    """

    kind = "inductive"
    one_batch = "whitened, and not aligned"

    def __init__(self, *, ridge: float | str = "auto", coral_ridge: float = 1.0):
        self.ridge = ridge
        self.coral_ridge = coral_ridge

    def fit(self, X: npt.ArrayLike, wells: pd.DataFrame) -> "TypicalVariation":
        """Learn the whitening and the alignment of each batch from control wells, (N, D), N rows of `context_of`."""
        self.sphering_ = Sphering(ridge=self.ridge).fit(np.asarray(X, np.float64), wells)
        white = self.sphering_.transform(np.asarray(X, np.float64))
        common = _root(_covariance(white), self.coral_ridge, 0.5)
        batches = {name: rows for name, rows in groups_within(wells, BATCH).items() if len(rows) > 1}
        self.matrices_ = {
            name: _root(_covariance(white[rows]), self.coral_ridge, -0.5) @ common for name, rows in batches.items()
        }
        return self

    def transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells whitened and aligned, (M, D) float64; X (M, D) with M rows of `context_of`."""
        aligned = self.sphering_.transform(np.array(X, np.float64))
        for name, rows in groups_within(wells, BATCH).items():
            if name in self.matrices_:
                aligned[rows] = aligned[rows] @ self.matrices_[name]
        return aligned


def _covariance(X: Floats) -> Floats:
    return covariance_of(X, X.mean(axis=0))


def _root(covariance: Floats, ridge: float, power: float) -> Floats:
    """The covariance with a ridge, to a power."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * (np.maximum(values, 0) + ridge) ** power) @ vectors.T
