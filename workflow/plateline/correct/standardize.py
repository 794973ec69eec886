"""Method `standardize`: z scores on the negative controls."""

import numpy as np

from plateline.correct.context import Floats
from plateline.correct.pooled import PooledScale


class Standardize(PooledScale):
    """Mean and sample standard deviation of the controls: z scores."""

    def _center(self, controls: Floats) -> Floats:
        return controls.mean(axis=0)

    def _spread(self, residual: Floats, n_centers: int) -> Floats:
        # A plate has lost one degree of freedom to its mean.
        return np.sqrt((residual**2).sum(axis=0) / (len(residual) - n_centers))
