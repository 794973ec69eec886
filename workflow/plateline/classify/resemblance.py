"""Treatments beside those they resemble: a tree cut into clusters, and a map of two axes."""

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import pdist

from plateline.classify.labels import NEGATIVE, average_treatments, check_profiles, text_of
from plateline.classify.nearest import directions
from plateline.identity import features_of

TYPES = {
    "Metadata_Treatment": object,
    "Metadata_Compound": object,
    "Metadata_MoA": object,
    "nearest": object,
    "cosine": float,
    "cluster": int,
    "order": int,
    "map_x": float,
    "map_y": float,
    "map_x_share": float,
    "map_y_share": float,
}
# Wells inside a cluster are nearer than this, as 1 - cosine, in the mean.
CLUSTER_DISTANCE = 0.5


def resemblance(profiles: pd.DataFrame) -> pd.DataFrame:
    """For each treatment its nearest other, its cluster, its place in the tree and on the map.

    Parameters
    ----------
    profiles : DataFrame
        Corrected profiles, one row per well, features finite.

    Returns
    -------
    DataFrame
        One row per treatment, sorted by treatment; negative controls are left out. `nearest` and its `cosine`;
        `cluster` (from 1) by average linkage of 1 - cosine, cut at 0.5; `order` (from 0) in which a tree shows
        them; `map_x`, `map_y` the first two principal components, and the share of the variance each has. Whole
        numbers are 0 and the others NaN where there are fewer than three treatments or no feature.

    Notes
    -----
    No mechanism is looked at. A component points to where its largest entry is positive.
    """
    wells = check_profiles(profiles)
    rows = average_treatments(wells[wells["Metadata_ControlType"] != NEGATIVE], [])
    X = rows[features_of(list(rows))].to_numpy(np.float64)
    names = {column: text_of(rows, column) for column in list(TYPES)[:3]}
    table = pd.DataFrame(names).assign(nearest="", cosine=np.nan, cluster=0, order=0)
    table[["map_x", "map_y", "map_x_share", "map_y_share"]] = np.nan
    if len(X) < 3 or not X.shape[1]:
        return table.astype(TYPES)
    cosine = directions(X) @ directions(X).T
    np.fill_diagonal(cosine, -np.inf)
    table["nearest"], table["cosine"] = names["Metadata_Treatment"][cosine.argmax(axis=1)], cosine.max(axis=1)
    tree = linkage(np.maximum(pdist(directions(X), "sqeuclidean") / 2, 0), method="average")
    table["cluster"] = fcluster(tree, CLUSTER_DISTANCE, criterion="distance")
    table.loc[leaves_list(tree), "order"] = np.arange(len(X))
    left, size, right = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    sign = np.where(right[np.arange(len(right)), np.abs(right).argmax(axis=1)] < 0, -1, 1)
    share = size**2 / max((size**2).sum(), np.finfo(float).tiny)
    for axis, name in enumerate(("map_x", "map_y")[: len(size)]):
        table[name], table[f"{name}_share"] = left[:, axis] * size[axis] * sign[axis], share[axis]
    return table.astype(TYPES)
