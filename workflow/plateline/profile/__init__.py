"""From cells to wells: exclusions, gates, readouts, aggregation, counts.

`exclude` says which fields and cells count, `wells` turns those that do into one row per well.
"""

from plateline.profile.exclude import (
    compare_exclusions,
    count_reasons,
    judge_cells,
    judge_fields,
    read_exclusions,
)
from plateline.profile.wells import build_profile, mean, median

__all__ = [
    "build_profile",
    "compare_exclusions",
    "count_reasons",
    "judge_cells",
    "judge_fields",
    "mean",
    "median",
    "read_exclusions",
]
