"""Effect sizes without p: SSMD of the distance, and for each feature how far a treatment's wells lie from the controls.

The well is the observation; wells are compared with the negatives of their own plates, in their standard deviations.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.hits.null import centre_on_negatives
from plateline.hits.permute import BoolArray, FloatArray, groups_of

# Features kept of each treatment: the farthest say what it does, all of them would be a table as large as the profiles.
TOP_FEATURES = 10
COLUMNS = {"Metadata_Treatment": object, "feature": object, "emd": float, "shift": float, "place": int}


def ssmd(treated: FloatArray, negative: FloatArray) -> float:
    """Strictly standardised mean difference of two groups of wells, NaN below two wells or without spread.

    References
    ----------
    Zhang 2007, doi:10.1016/j.ygeno.2006.12.014
    """
    if min(len(treated), len(negative)) < 2:
        return np.nan
    spread = np.sqrt(treated.var(ddof=1) + negative.var(ddof=1))
    return float((treated.mean() - negative.mean()) / spread) if spread > 0 else np.nan


def earth_movers(treated: FloatArray, negative: FloatArray) -> FloatArray:
    """Earth mover's distance of each feature between two groups of wells (F,), in the unit of the features.

    Parameters
    ----------
    treated : (N, F) float64
    negative : (M, F) float64
        Without NaN, not empty.

    Notes
    -----
    The area between the two distribution functions; both are steps, so the sum over the sorted values is exact.
    """
    both = np.concatenate([treated, negative])
    order = np.argsort(both, axis=0, kind="stable")
    mine = order < len(treated)
    step = np.diff(np.take_along_axis(both, order, axis=0), axis=0)
    ahead = np.cumsum(mine, axis=0) / len(treated) - np.cumsum(~mine, axis=0) / len(negative)
    return (np.abs(ahead[:-1]) * step).sum(axis=0)


def feature_effects(
    values: FloatArray, features: list[str], plates: npt.NDArray, negative: BoolArray, names: pd.Series
) -> pd.DataFrame:
    """The features in which each treatment lies farthest from the negative controls of its plates.

    Parameters
    ----------
    values : (N, F) float64
        Profiles, finite.
    features : list of str
        Names of F.
    plates : (N,) array
    negative : (N,) bool
    names : Series of str
        Treatment of each well that counts, missing for others.

    Returns
    -------
    DataFrame
        At most `TOP_FEATURES` rows per treatment: `emd` in standard deviations of the negatives, `shift` (difference of
        the medians, signed, same unit), `place` from 1. Features without spread among the negatives are left out.
    """
    centred, degrees = centre_on_negatives(values, plates, negative)
    known = np.isfinite(centred).all(axis=1)
    fit = negative & known
    spread = np.sqrt((centred[fit] ** 2).sum(axis=0) / max(degrees[fit].sum(), 1))
    varies = np.flatnonzero(spread > 0)
    scaled, parts = centred[:, varies] / spread[varies], []
    for name, own in groups_of(names.where(known)).items():
        controls = scaled[fit & np.isin(plates, plates[own])]
        emd = earth_movers(scaled[own], controls)
        shift = np.median(scaled[own], axis=0) - np.median(controls, axis=0)
        top = np.argsort(-emd, kind="stable")[:TOP_FEATURES]
        rows = {"feature": [features[varies[i]] for i in top], "emd": emd[top], "shift": shift[top]}
        parts.append(pd.DataFrame({"Metadata_Treatment": name, **rows, "place": np.arange(1, len(top) + 1)}))
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in COLUMNS.items()})
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)].astype(COLUMNS) if parts else empty
