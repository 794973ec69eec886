"""What a correction did to batches and to biology, and the sentences that warn of it."""

import numpy as np
import pandas as pd

from plateline.correct.context import BATCH, Texts, context_of
from plateline.correct.mixing import mixing_table
from plateline.correct.zscore import ZScore

# A fall of the silhouette or the mAP of treatments that is no rounding.
LOST_BIOLOGY = 0.05


def compare(wells: pd.DataFrame, features: pd.DataFrame, corrected: pd.DataFrame) -> pd.DataFrame:
    """The metrics of mixing of the features as they came, z-scored over all wells, and of the corrected ones."""
    context = context_of(wells)
    before = ZScore().fit_transform(features.to_numpy(np.float64), context)
    before = before[:, np.isfinite(before).all(axis=0)]
    enough = len(wells) > 2 and before.shape[1] and corrected.shape[1]
    rows = slice(None) if enough else slice(0)
    return mixing_table(before[rows], corrected.to_numpy()[rows], context[BATCH][rows], treatments_of(wells)[rows])


def treatments_of(wells: pd.DataFrame) -> Texts:
    """Treatment of each well; empty text for negative controls and wells without one."""
    given = wells.get("Metadata_Treatment", pd.Series("", index=wells.index))
    blank = given.isna() | (wells["Metadata_ControlType"] == "negative")
    return given.astype(str).mask(blank, "").to_numpy(object)


def confounded(wells: pd.DataFrame) -> list[str]:
    """A sentence when treatments lie in one batch only, where there are several."""
    batch, treatment = context_of(wells)[BATCH], treatments_of(wells)
    known = treatment != ""
    batches = batch[known].groupby(treatment[known]).nunique()
    alone = batches.index[batches == 1]
    if batch.nunique() < 2 or not len(alone):
        return []
    named = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
    return [
        f"{len(alone)} of {len(batches)} treatments lie in one batch only ({named}): what they do and what the batch "
        "does cannot be told apart"
    ]


def lost_biology(mixing: pd.DataFrame) -> list[str]:
    """Sentences when treatments stand less apart after the correction than before, by silhouette or by mAP."""
    rows = mixing.set_index("metric")[["before", "after"]]
    words = {"silhouette_treatment": "silhouette of treatments", "map_treatment": "mAP of treatments"}
    return [
        f"the correction removes biology: {word} {before:.2f} before, {after:.2f} after"
        for word, (before, after) in zip(words.values(), rows.loc[list(words)].to_numpy(), strict=True)
        if after < before - LOST_BIOLOGY
    ]
