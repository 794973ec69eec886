"""Method `minmax-controls`: the span of the negative controls becomes 0 to 1."""

import numpy as np

from plateline.correct.context import Floats
from plateline.correct.pooled import PooledScale


class MinMaxControls(PooledScale):
    """The 1st percentile of the controls becomes 0, the 99th 1; other wells may lie outside.

    References
    ----------
    Ljosa et al. 2013, https://doi.org/10.1177/1087057113503553
    """

    def _center(self, controls: Floats) -> Floats:
        return np.median(controls, axis=0)

    def _spread(self, residual: Floats, n_centers: int) -> Floats:
        return np.percentile(residual, [1, 99], axis=0)  # (2, D)
