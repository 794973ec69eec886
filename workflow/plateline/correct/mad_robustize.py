"""Method `mad_robustize`: robust z scores on the negative controls."""

import numpy as np

from plateline.correct.context import Floats
from plateline.correct.pooled import PooledScale

# MAD times this is the standard deviation of a normal distribution.
MAD_TO_SD = 1.4826


class MadRobustize(PooledScale):
    """Median and 1.4826 MAD of the controls: robust z scores.

    More than half of the controls at one value give scale 0, and the feature becomes NaN.
    """

    def _center(self, controls: Floats) -> Floats:
        return np.median(controls, axis=0)

    def _spread(self, residual: Floats, n_centers: int) -> Floats:
        return MAD_TO_SD * np.median(np.abs(residual), axis=0)
