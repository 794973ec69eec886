"""Which treatments do something: distance to the negative controls, permutation test, dose response."""

from plateline.hits.distance import distances, treatments
from plateline.hits.dose import dose_response, four_parameter
from plateline.hits.permute import effect_size, permutation_test

__all__ = ["distances", "dose_response", "effect_size", "four_parameter", "permutation_test", "treatments"]
