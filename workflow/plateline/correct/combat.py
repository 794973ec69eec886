"""Method `combat`: mean and variance of each feature in each batch, shrunken towards those of all features."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import BATCH, Floats

MAX_ROUNDS = 100
TOLERANCE = 1e-6


class Combat(TransformerMixin, BaseEstimator):
    """Batch effects by parametric empirical Bayes, without covariates.

    Attributes
    ----------
    kind : str
        ``transductive``: sees features and batch of all wells. Where batches hold different treatments, it takes a
        part of what the treatments do for a batch effect.

    Notes
    -----
    A batch of one well has no variance: only its mean is moved. A feature without spread stays as it is.

    References
    ----------
    Johnson et al. 2007, https://doi.org/10.1093/biostatistics/kxj037
    """

    kind = "transductive"
    one_batch = "passed through"

    def fit_transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells without the shifts and spreads of their batches.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            All wells by features, finite.
        wells : DataFrame
            N rows of `context_of`.

        Returns
        -------
        ndarray of float64, shape (N, D)
        """
        X = np.array(X, np.float64)
        batches = [np.flatnonzero(wells[BATCH] == name) for name in np.unique(wells[BATCH])]
        shares = np.array([len(rows) for rows in batches]) / len(X)
        means = np.stack([X[rows].mean(axis=0) for rows in batches])  # (B, D)
        residual = np.concatenate([X[rows] - mean for rows, mean in zip(batches, means, strict=True)])
        center, scale = shares @ means, np.sqrt((residual**2).mean(axis=0))
        moves = scale > 0
        z = (X[:, moves] - center[moves]) / scale[moves]
        for rows in batches:
            shift, spread = _shrunken(z[rows])
            z[rows] = (z[rows] - shift) / np.sqrt(spread)
        X[:, moves] = z * scale[moves] + center[moves]
        return X


def _shrunken(z: Floats) -> tuple[Floats, Floats]:
    """Posterior mean and variance of each feature in one batch, (D,) each; z (n, D)."""
    n, mean = len(z), z.mean(axis=0)
    if n < 2 or z.shape[1] < 2:
        return mean, z.var(axis=0, ddof=1) if n > 1 and (z.var(axis=0) > 0).all() else np.ones(z.shape[1])
    variance = z.var(axis=0, ddof=1)
    prior_mean, prior_spread = mean.mean(), mean.var(ddof=1)
    # Inverse gamma by its moments; features that are all equally spread need no shrinking.
    m, s2 = variance.mean(), max(variance.var(ddof=1), np.finfo(float).tiny)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    shift, spread = mean, variance
    for _ in range(MAX_ROUNDS):
        moved = (n * prior_spread * mean + spread * prior_mean) / (n * prior_spread + spread)
        spread_new = (b + 0.5 * ((z - moved) ** 2).sum(axis=0)) / (a + n / 2 - 1)
        change = max(_relative(moved, shift), _relative(spread_new, spread))
        shift, spread = moved, spread_new
        if change < TOLERANCE:
            break
    return shift, spread


def _relative(new: Floats, old: Floats) -> float:
    return float((np.abs(new - old) / np.maximum(np.abs(old), np.finfo(float).tiny)).max())
