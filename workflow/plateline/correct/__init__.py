"""Profiles made comparable between plates and batches: scaled on controls, features selected, batch effects removed.

One file per corrector; `profiles` runs the stage, `mixing` measures what a correction did to batches and to biology.
Refuses labels: no corrector sees a compound, a treatment or a mechanism.
"""

from plateline.correct.combat import Combat
from plateline.correct.harmony import Harmony
from plateline.correct.mad_robustize import MadRobustize
from plateline.correct.minmax_controls import MinMaxControls
from plateline.correct.mixing import mixing_table
from plateline.correct.mnn import MutualNeighbours
from plateline.correct.none import Identity
from plateline.correct.profiles import Corrected, correct_profiles
from plateline.correct.select import correlated, select_features
from plateline.correct.sphering import Sphering
from plateline.correct.standardize import Standardize
from plateline.correct.tvn import TypicalVariation
from plateline.correct.zscore import ZScore

__all__ = [
    "Combat",
    "Corrected",
    "Harmony",
    "Identity",
    "MadRobustize",
    "MinMaxControls",
    "MutualNeighbours",
    "Sphering",
    "Standardize",
    "TypicalVariation",
    "ZScore",
    "correct_profiles",
    "correlated",
    "mixing_table",
    "select_features",
]
