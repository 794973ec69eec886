"""Picture of all treatments by how far they are from the negative controls."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from plateline.report.canvas import ACCENT, CONTROLS, axes_at, draw

_WIDTH, _HEIGHT = 7.8, 2.5


def ranking(treatments: pd.DataFrame) -> bytes:
    """SVG with one point per treatment, farthest first; hits are filled.

    Treatments without a distance are not drawn; controls have the colour they have on the plate.
    """
    ranked = treatments[np.isfinite(treatments["distance"])].sort_values("distance", ascending=False, kind="stable")
    colours = [CONTROLS.get(kind, ACCENT) for kind in ranked["Metadata_ControlType"]]
    faces = [colour if hit else "white" for colour, hit in zip(colours, ranked["hit"].eq(True), strict=True)]

    def paint(figure: Figure) -> None:
        axes = axes_at(figure, 0.5, 0.45, _WIDTH - 0.65, _HEIGHT - 0.6)
        places = np.arange(1, len(ranked) + 1)
        axes.scatter(places, ranked["distance"], s=18, c=faces, edgecolors=colours, linewidths=0.9, clip_on=False)
        axes.set(xlabel="treatments, farthest first", ylabel="distance", xlim=(0.2, len(ranked) + 0.8))
        axes.set_ylim(bottom=min(0, ranked["distance"].min()) if len(ranked) else 0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return draw(_WIDTH, _HEIGHT, paint)
