"""What a training of the segmenter was worth: its losses by step, and its scores on images that it never trained on."""

import pandas as pd
from matplotlib.figure import Figure

from plateline import metrics
from plateline.report.canvas import ACCENT, MUTED, RULE, axes_at, draw
from plateline.report.tables import Table, count, number, table, text, used

_WIDTH, _HEIGHT = 7.8, 2.9
# Overlaps that stand in the table one by one, beside the mean over all.
_SHOWN = (0.5, 0.7, 0.9)


def learning_curve(curve: pd.DataFrame) -> bytes:
    """SVG of the loss on the images trained on and on those held out, by step; the least held-out loss is marked.

    Parameters
    ----------
    curve : DataFrame
        ``step``, ``loss`` and ``held_out``, at least one row; NaN is not drawn.
    """

    def paint(figure: Figure) -> None:
        axes = axes_at(figure, 0.6, 0.5, _WIDTH - 0.8, _HEIGHT - 0.85)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.plot(curve["step"], curve["loss"], "o-", color=MUTED, markersize=3, linewidth=1.1, label="trained on")
        axes.plot(curve["step"], curve["held_out"], "o-", color=ACCENT, markersize=3, linewidth=1.4, label="held out")
        if curve["held_out"].notna().any():
            best = curve.loc[curve["held_out"].idxmin()]
            axes.plot(best["step"], best["held_out"], "o", color=ACCENT, markersize=8, fillstyle="none")
        axes.set(xlabel="step", ylabel="loss")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)

    return draw(_WIDTH, _HEIGHT, paint)


def training_table(scores: pd.DataFrame) -> Table:
    """One row per network, before and after: AP per image by overlap, and nuclei found, invented and missed at 0.5.

    Parameters
    ----------
    scores : DataFrame
        ``when`` (before, after), ``image``, ``threshold``, ``tp``, ``fp`` and ``fn``; may be empty.
    """
    scored = scores.assign(ap=metrics.average_precision(scores))
    at_half = scored[scored["threshold"] == _SHOWN[0]]
    rows = at_half.groupby("when", sort=False)[["tp", "fp", "fn"]].sum()
    for threshold in _SHOWN:
        rows[f"ap{threshold}"] = scored[scored["threshold"] == threshold].groupby("when")["ap"].mean()
    rows["mean"] = scored.groupby("when")["ap"].mean()  # every image has every overlap
    rows["images"] = at_half.groupby("when")["image"].nunique()
    columns = {
        "network": ("when", text),
        "held-out images": ("images", count),
        **{f"AP at {threshold}": (f"ap{threshold}", number) for threshold in _SHOWN},
        "mean AP, 0.5 to 0.9": ("mean", number),
        "found": ("tp", count),
        "invented": ("fp", count),
        "missed": ("fn", count),
    }
    rows = rows.reset_index()
    return table(rows, used(columns, rows))
