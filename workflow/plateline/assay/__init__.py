"""Is the plate any good: statistics of its controls, and whether position or a turned plate shows in its wells.

`controls` are the statistics, `quality` their table; `layout` says which wells may be compared, `positions`, `bscore`
and `swap` compare them, `findings` is their table.
"""

from plateline.assay.bscore import B_SCORES, b_scores, median_polish, well_scores
from plateline.assay.controls import (
    MAD_TO_SD,
    MIN_WELLS,
    STATISTICS,
    robust_zprime,
    signal_window,
    ssmd,
    variation,
    zprime,
)
from plateline.assay.findings import POSITION_COLUMNS, findings, position_effects
from plateline.assay.layout import alignment, one_treatment, places
from plateline.assay.positions import PATTERNS, edge_effect, outliers, pattern_effect, single_samples
from plateline.assay.quality import ALL_POSITIVE, COLUMNS, plate_statistics
from plateline.assay.swap import ARRANGEMENTS, orientation

__all__ = [
    "ALL_POSITIVE",
    "ARRANGEMENTS",
    "B_SCORES",
    "COLUMNS",
    "MAD_TO_SD",
    "MIN_WELLS",
    "PATTERNS",
    "POSITION_COLUMNS",
    "STATISTICS",
    "alignment",
    "b_scores",
    "edge_effect",
    "findings",
    "median_polish",
    "one_treatment",
    "orientation",
    "outliers",
    "pattern_effect",
    "places",
    "plate_statistics",
    "position_effects",
    "robust_zprime",
    "signal_window",
    "single_samples",
    "ssmd",
    "variation",
    "well_scores",
    "zprime",
]
