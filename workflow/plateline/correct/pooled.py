"""Centre per plate, scale from as many controls as there are: the rule behind the three scalings on controls."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from plateline.correct.context import BATCH, PLATE, Floats, groups_within
from plateline.errors import PlatelineError

# A spread below this share of the centre is the rounding of float32 sums, not biology.
MIN_RELATIVE_SPREAD = 1e-9


class PooledScale(TransformerMixin, BaseEstimator):
    """What the scalings on controls share; each says how it finds the centre and the spread.

    Parameters
    ----------
    own_scale_from : int
        Negative controls from which a plate is scaled by its own alone, at least 2. With n fewer, its squared scale is
        n / `own_scale_from` of its own and the rest of the batch's.

    Attributes
    ----------
    kind : str
        ``inductive``: fitted on control wells, transforms any.
    center_, scale_ : dict of str to ndarray of float64, shape (D,)
        By plate, apart by cell line and time point. A feature without spread has scale 0 and becomes NaN.

    Notes
    -----
    Six controls are too few to scale by: on BBBC021 scaling each plate by its six DMSO wells costs a fifth of the
    right mechanisms. The batch's scale is that of the differences of its controls from their own plate's centre.
    A feature with a value that is not finite among the controls becomes NaN on that plate.
    """

    kind = "inductive"
    scales = True
    # (N, D) controls -> (D,); (N, D) residuals and the number of centres they were taken from -> (D,), or low and high
    # ends (2, D).
    _center: Callable[[Floats], Floats]
    _spread: Callable[[Floats, int], Floats]

    def __init__(self, *, own_scale_from: int = 16):
        self.own_scale_from = own_scale_from

    def fit(self, X: npt.ArrayLike, wells: pd.DataFrame) -> "PooledScale":
        """Learn centre and scale from control wells.

        Parameters
        ----------
        X : array_like of float, shape (N, D)
            Control wells by features; at least 2 on each plate.
        wells : DataFrame
            N rows of `context_of`.

        Returns
        -------
        PooledScale
            Itself.

        Raises
        ------
        PlatelineError
            If a plate has fewer than two control wells.
        """
        X = np.asarray(X, np.float64)
        X = np.where(np.isfinite(X), X, np.nan)
        plates = groups_within(wells, PLATE)
        short = [f"{len(rows)} control wells on plate {name}" for name, rows in plates.items() if len(rows) < 2]
        if short or not plates:
            got = short[0] if short else "no control wells"
            msg = f"{type(self).__name__} was given {got}; expected at least 2; raise correct.min_controls"
            raise PlatelineError(msg)
        centers = {name: self._center(X[rows]) for name, rows in plates.items()}
        residual = np.empty_like(X)
        for name, rows in plates.items():
            residual[rows] = X[rows] - centers[name]
        self.center_: dict[str, Floats] = {}
        self.scale_: dict[str, Floats] = {}
        for batch in groups_within(wells, BATCH).values():
            inside = {name: rows for name, rows in plates.items() if rows[0] in set(batch.tolist())}
            pooled = self._spread(residual[batch], len(inside))
            for name, rows in inside.items():
                own = self._spread(residual[rows], 1)
                weight = min(len(rows) / self.own_scale_from, 1.0)
                self._keep(name, centers[name], _between(own, pooled, weight))
        return self

    def transform(self, X: npt.ArrayLike, wells: pd.DataFrame) -> Floats:
        """Wells in units of the controls' spread.

        Parameters
        ----------
        X : array_like of float, shape (M, D)
            Any wells of the plates that were fitted.
        wells : DataFrame
            M rows of `context_of`.

        Returns
        -------
        ndarray of float64, shape (M, D)
            (X - center) / scale; NaN where the scale is 0, and for wells without controls of their kind.
        """
        X = np.asarray(X, np.float64)
        scaled = np.full(X.shape, np.nan)
        for name, rows in groups_within(wells, PLATE).items():
            if name in self.center_:
                scale = self.scale_[name]
                scaled[rows] = (X[rows] - self.center_[name]) / np.where(scale == 0, np.nan, scale)
        return scaled

    def _keep(self, name: str, center: Floats, spread: Floats) -> None:
        """What a plate is scaled by, with the rounding errors of a constant set to 0."""
        low, width = (np.zeros(len(center)), spread) if spread.ndim == 1 else (spread[0], spread[1] - spread[0])
        self.center_[name] = center + low
        self.scale_[name] = np.where(width <= MIN_RELATIVE_SPREAD * np.abs(center), 0.0, width)


def _between(own: Floats, pooled: Floats, weight: float) -> Floats:
    """Spread with `weight` of the plate's own square and the rest of the batch's, signs kept."""
    square = weight * own * np.abs(own) + (1 - weight) * pooled * np.abs(pooled)
    return np.sign(square) * np.sqrt(np.abs(square))
