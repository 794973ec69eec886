"""From cells to wells: exclusions, gates, readouts, aggregation, counts.

`exclude` says which fields and cells count, `counts` and `aggregate` sum them up, `wells` makes one row per well of
them, `imported` does so for the tables of other programs.
"""

from plateline.profile.aggregate import aggregate_cells, count_only, mad, mean, median, quantiles
from plateline.profile.counts import count_wells
from plateline.profile.exclude import (
    compare_exclusions,
    count_reasons,
    judge_cells,
    judge_fields,
    read_exclusions,
)
from plateline.profile.imported import note_infinite
from plateline.profile.judge import Judged, judge_images, judge_table
from plateline.profile.wells import build_profile

__all__ = [
    "Judged",
    "aggregate_cells",
    "build_profile",
    "compare_exclusions",
    "count_only",
    "count_reasons",
    "count_wells",
    "judge_cells",
    "judge_fields",
    "judge_images",
    "judge_table",
    "mad",
    "mean",
    "median",
    "note_infinite",
    "quantiles",
    "read_exclusions",
]
