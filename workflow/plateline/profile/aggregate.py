"""Features of cells become features of wells, some columns at a time, so that memory does not grow with the plate."""

from collections.abc import Callable

import numpy as np
import pandas as pd

# Scale that makes the median absolute deviation of a normal distribution its standard deviation.
MAD_SCALE = 1.4826
# Bytes of features that are read at once; at least one column of all cells.
BLOCK_BYTES = 1 << 28


def aggregate_cells(
    read: Callable[[list[str]], pd.DataFrame],
    names: list[str],
    wells: pd.Series,
    aggregate: Callable[[pd.DataFrame, pd.Series], pd.DataFrame],
    *,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[pd.DataFrame, pd.Series]:
    """Aggregated features per well, and how many values of each feature were infinite.

    Parameters
    ----------
    read : callable
        Names of features -> those columns of the cells that count, float, in the order of `wells`.
    names : list of str
        All features.
    wells : Series of str
        Well of each cell.
    aggregate : callable
        Features and well of each cell -> one row per well; sees as many features at once as fit into `block_bytes`.
    block_bytes : int
        Bound of what is read at once, beside one column of all cells.

    Returns
    -------
    features : DataFrame
        Index well.
    infinite : Series of int
        By feature; these values count as missing.
    """
    step = max(1, block_bytes // (8 * max(1, len(wells))))
    parts = [pd.DataFrame(index=pd.Index(sorted(wells.unique()), name="Metadata_Well"))]
    infinite: dict[str, int] = {}
    for start in range(0, len(names), step):
        block = read(names[start : start + step])
        endless = np.isinf(block.to_numpy(dtype=np.float64, na_value=np.nan))
        infinite |= dict(zip(block.columns, endless.sum(axis=0).tolist(), strict=True))
        block = block.mask(endless) if endless.any() else block
        parts.append(aggregate(block, wells.set_axis(block.index)))
    return pd.concat(parts, axis=1), pd.Series(infinite, dtype=np.int64)


def median(features: pd.DataFrame, wells: pd.Series) -> pd.DataFrame:
    """Median of each feature per well, NaN left out; index well, sorted."""
    return features.groupby(wells).median()


def mean(features: pd.DataFrame, wells: pd.Series) -> pd.DataFrame:
    """Mean of each feature per well, NaN left out; index well, sorted."""
    return features.groupby(wells).mean()


def mad(features: pd.DataFrame, wells: pd.Series) -> pd.DataFrame:
    """Median of each feature per well, and `{feature}_MAD`, the median distance from it times 1.4826; index well."""
    centre = features.groupby(wells).median()
    away = (features - centre.reindex(wells).set_axis(features.index)).abs()
    return pd.concat([centre, (MAD_SCALE * away.groupby(wells).median()).add_suffix("_MAD")], axis=1)


def quantiles(features: pd.DataFrame, wells: pd.Series, *, levels: list[float]) -> pd.DataFrame:
    """Quantiles of each feature per well, as `{feature}_Q10` for the level 10 %, NaN left out; index well, sorted."""
    groups = features.groupby(wells)
    return pd.concat([groups.quantile(level / 100).add_suffix(f"_Q{level:g}") for level in levels], axis=1)


def count_only(features: pd.DataFrame, wells: pd.Series) -> pd.DataFrame:
    """No features, so that counts and readouts alone describe a well; index well, sorted."""
    return features[[]].groupby(wells).first()
