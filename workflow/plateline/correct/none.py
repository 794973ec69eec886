"""Method `none`: profiles that were corrected elsewhere."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import Floats


class Identity(TransformerMixin, BaseEstimator):
    """Profiles as they are."""

    kind = "inductive"

    def fit(self, X: npt.ArrayLike, wells: pd.DataFrame) -> "Identity":
        """Learn nothing; X may have no rows."""
        return self

    def transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """A float64 copy of the values, (M, D)."""
        return np.array(X, np.float64)
