"""Pictures of assay quality: the control wells of each readout, and Z' with its interval."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plateline.identity import READOUT
from plateline.report.canvas import ACCENT, CONTROL_ORDER, CONTROLS, MUTED, RULE, axes_at, draw, plain, readable

_WIDTH = 7.8
# Zhang et al. 1999, doi:10.1177/108705719900400206: from 0.5 the bands of the controls are well apart.
_FIT_FOR_SCREENING = 0.5
_MOST_ROWS = 40


def control_strips(wells: pd.DataFrame, readouts: list[str]) -> bytes:
    """SVG with a panel per readout: each ``ok`` well as a point, by what is in it, the median as a bar, n below.

    Parameters
    ----------
    wells : DataFrame
        One plate's wells with ``Metadata_Readout_{readout}``; NaN values are not drawn and not counted.
    readouts : list of str
        One to three panels a row.
    """
    across = min(3, max(1, len(readouts)))
    down = -(-len(readouts) // across)
    width, height = (_WIDTH - 0.1) / across, 2.35

    def paint(figure: Figure) -> None:
        for i, readout in enumerate(readouts):
            row, column = divmod(i, across)
            axes = axes_at(figure, column * width + 0.5, (down - 1 - row) * height + 0.55, width - 0.65, height - 0.85)
            _strip(axes, _groups(wells, READOUT + readout))
            axes.set_title(readable(readout, int(width * 11)), loc="left", fontsize=9, fontweight="bold")

    return draw(_WIDTH, down * height, paint)


def intervals(assay: pd.DataFrame, labels: list[str]) -> bytes:
    """SVG of Z' (full) and robust Z' (open) with their intervals, one labelled row each, the first 40 rows.

    Values below -1 stand at the left end as an arrow: that far down the number says no more than "not usable".
    """
    shown = assay.head(_MOST_ROWS)
    left = 2.6
    height = 0.24 * len(shown) + 0.75

    def paint(figure: Figure) -> None:
        axes = axes_at(figure, left, 0.45, _WIDTH - left - 0.2, height - 0.75)
        axes.set(xlim=(-1.04, 1.04), ylim=(len(shown) - 0.4, -0.6), xlabel="Z′   (1: perfect, 0: the bands touch)")
        axes.axvspan(_FIT_FOR_SCREENING, 1.0, color="#e9f3f1", linewidth=0)
        for value in (0.0, _FIT_FOR_SCREENING, 1.0):
            axes.axvline(value, color=RULE, linewidth=0.8, zorder=0.5)
        axes.set_yticks(range(len(shown)), [plain(label, 46) for label in labels[: len(shown)]])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        for shift, name, filled in ((-0.13, "zprime", True), (0.13, "robust_zprime", False)):
            _interval_row(axes, shown, name, shift=shift, filled=filled)
        axes.legend(handles=_interval_handles(), loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)

    return draw(_WIDTH, height, paint)


def _groups(wells: pd.DataFrame, column: str) -> list[tuple[str, str, npt.NDArray[np.float64]]]:
    """Label, kind and values of every control type that has wells with a value."""
    ok = wells[(wells["Metadata_Status"] == "ok") & wells[column].notna()]
    groups = [(kind, ok.loc[ok["Metadata_ControlType"] == kind, column]) for kind in CONTROL_ORDER]
    return [(f"{kind}\nn = {len(v)}", kind, v.to_numpy(dtype=float)) for kind, v in groups if len(v)]


def _strip(axes: Axes, groups: list[tuple[str, str, npt.NDArray[np.float64]]]) -> None:
    span = np.ptp(np.concatenate([values for _, _, values in groups])) if groups else 0.0
    for x, (_, kind, values) in enumerate(groups):
        colour = CONTROLS.get(kind, ACCENT)
        axes.plot(x + _spread(values, span), values, "o", markersize=2.6, color=colour, alpha=0.6, markeredgewidth=0)
        axes.plot([x - 0.32, x + 0.32], [np.median(values)] * 2, color=colour, linewidth=1.4)
    axes.set_xlim(-0.6, max(len(groups), 2) - 0.4)
    axes.set_xticks(range(len(groups)), [label for label, _, _ in groups], fontsize=7 if len(groups) < 4 else 6)
    axes.tick_params(axis="x", length=0)


def _spread(values: npt.NDArray[np.float64], span: float) -> npt.NDArray[np.float64]:
    """Sideways place of each point, the same every time: points of like value (a 30th of `span`) side by side."""
    bins = np.floor(30 * (values - values.min()) / (span or 1.0))
    together = pd.Series(values).groupby(bins)
    place, n = together.cumcount().to_numpy(), together.transform("size").to_numpy()
    return 0.7 * (place - (n - 1) / 2) / max(n.max(), 12)


def _interval_row(axes: Axes, shown: pd.DataFrame, name: str, *, shift: float, filled: bool) -> None:
    colour = ACCENT if filled else MUTED
    for y, (value, low, high) in enumerate(shown[[name, f"{name}_low", f"{name}_high"]].to_numpy(dtype=float)):
        if not np.isfinite(value):
            if filled:
                axes.text(-1.0, y + 0.03, "not estimable", va="center", fontsize=7.5, color=MUTED, style="italic")
            continue
        axes.plot(np.clip([low, high], -1.0, 1.0), [y + shift] * 2, color=colour, linewidth=1.3, solid_capstyle="butt")
        marker = "<" if value < -1 else "o"
        axes.plot(
            [max(value, -1.0)],
            [y + shift],
            marker,
            color=colour,
            markersize=5 if filled else 4,
            markerfacecolor=colour if filled else "white",
        )


def _interval_handles() -> list[Line2D]:
    full = Line2D([], [], color=ACCENT, marker="o", markersize=5, label="Z′ (mean, SD)")
    robust = Line2D(
        [], [], color=MUTED, marker="o", markersize=4, markerfacecolor="white", label="robust Z′ (median, MAD)"
    )
    band = Line2D([], [], color="#cfe4e0", linewidth=6, label="0.5 and above")
    return [full, robust, band]
