"""Image quality of every field and channel: measures of one field, then flags against its plate.

`field` measures one field, `focus` its sharpness and `objects` what is bright in it, on counts as the camera gave them;
`kernels` are compiled loops; `plate` flags fields beside the rest of their plate, finds copies and drift, and reads no
pixel. A flag is a suspicion with its numbers beside it, not an exclusion.
"""

from plateline.qc.field import METRICS, measure_field, no_metrics
from plateline.qc.focus import focus_score, power_slope
from plateline.qc.plate import FLAGS, MIN_FIELDS, drift_reasons, find_drift, flag_fields, role_reasons

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
    "role_reasons",
]
