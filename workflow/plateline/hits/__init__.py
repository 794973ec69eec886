"""Which treatments do something: distance to the negative controls, tests, effect sizes, flags, dose response."""

from plateline.hits.call import dose_curves, find_hits, hit_list, one_pixel_size, uneven_features
from plateline.hits.distance import distances, treatments
from plateline.hits.dose import dose_response, four_parameter
from plateline.hits.flags import flag_treatments
from plateline.hits.null import control_test, false_positives
from plateline.hits.permute import effect_size, permutation_test
from plateline.precision import average_precision, mean_average_precision

__all__ = [
    "average_precision",
    "control_test",
    "distances",
    "dose_curves",
    "dose_response",
    "effect_size",
    "false_positives",
    "find_hits",
    "flag_treatments",
    "four_parameter",
    "hit_list",
    "mean_average_precision",
    "one_pixel_size",
    "permutation_test",
    "treatments",
    "uneven_features",
]
