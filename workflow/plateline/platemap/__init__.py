"""What is in each well: compound, dose and control type, from a table or grid in anybody's words."""

from plateline.platemap.sheets import read_map
from plateline.platemap.wells import tidy, whole_plate
from plateline.platemap.words import COLUMNS, CONTROL_TYPES, JUMP

__all__ = ["COLUMNS", "CONTROL_TYPES", "JUMP", "read_map", "tidy", "whole_plate"]
