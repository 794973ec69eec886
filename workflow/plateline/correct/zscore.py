"""Method `zscore`: z scores over all wells of the screen together."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import Floats
from plateline.correct.pooled import MIN_RELATIVE_SPREAD


class ZScore(TransformerMixin, BaseEstimator):
    """Mean 0 and sample standard deviation 1 over all wells, whatever their plate.

    Attributes
    ----------
    kind : str
        ``transductive``: every well has a say in the scale. It evens out units, not plates.
    """

    kind = "transductive"
    scales = True

    def fit_transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells in units of the spread of all of them.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            All wells by features, finite.
        wells : DataFrame
            Not used.

        Returns
        -------
        ndarray of float64, shape (N, D)
            NaN for a feature without spread, and for all when there are fewer than two wells.
        """
        X = np.asarray(X, np.float64)
        if len(X) < 2:
            return np.full(X.shape, np.nan)
        center, scale = X.mean(axis=0), X.std(axis=0, ddof=1)
        flat = scale <= MIN_RELATIVE_SPREAD * np.abs(center)
        return (X - center) / np.where(flat, np.nan, scale)
