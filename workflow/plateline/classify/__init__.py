"""What the treatments resemble: mechanism, how sure, and whether anything like it was seen in training.

Owns the classifiers, the splits that hold out whole groups, the doubt, and the scores with their baselines. A
classifier is a function of its options and a seed that gives an unfitted scikit-learn estimator with ``predict_proba``.
Only control and reference wells carry labels; no score of a labelled row comes from a fit that saw its group.
"""

from plateline.classify.baselines import SCORES
from plateline.classify.learned import boosting, forest, lda, logistic, svm
from plateline.classify.nearest import nearest, neighbours
from plateline.classify.resemblance import resemblance
from plateline.classify.splits import HOLD_OUT, cross_fit, hold_out_groups, leave_class_out, leave_out
from plateline.classify.treatments import COLUMNS, classify_treatments, warnings_of
from plateline.classify.wrappers import wrap

__all__ = [
    "COLUMNS",
    "HOLD_OUT",
    "SCORES",
    "boosting",
    "classify_treatments",
    "cross_fit",
    "forest",
    "hold_out_groups",
    "lda",
    "leave_class_out",
    "leave_out",
    "logistic",
    "nearest",
    "neighbours",
    "resemblance",
    "svm",
    "warnings_of",
    "wrap",
]
