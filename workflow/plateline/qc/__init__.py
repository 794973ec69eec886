"""Image quality of every field and channel: measures of one field, then flags against its plate.

`field` measures one field and `focus` its sharpness, on counts as the camera gave them; `plate` flags fields beside the
rest of their plate, finds copies and drift, and reads no pixel. A flag is a suspicion with its numbers beside it, not
an exclusion.
"""

from plateline.qc.field import METRICS, measure_field, no_metrics
from plateline.qc.focus import focus_score, power_slope
from plateline.qc.plate import FLAGS, MIN_FIELDS, drift_reasons, find_drift, flag_fields

__all__ = [
    "FLAGS",
    "METRICS",
    "MIN_FIELDS",
    "drift_reasons",
    "find_drift",
    "flag_fields",
    "focus_score",
    "measure_field",
    "no_metrics",
    "power_slope",
]
