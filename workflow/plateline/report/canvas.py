"""The one look of all figures: colours, type, and the way from a figure to the bytes of an SVG or a PNG."""

import io
import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, RULE, PAPER, ACCENT = "#1d2830", "#66727c", "#dfe4e8", "#ffffff", "#0b6e75"

# Okabe and Ito's colours without their yellow and black, told apart by readers with any colour vision.
COMPOUNDS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#8c6bb1", "#a65628", "#7f8c3d")

# Edges that stand out from the blue-green scale of the heat maps.
CONTROLS = {
    "negative": "#111111",
    "positive": "#d55e00",
    "reference": "#b0329a",
    "untreated": "#8a6d3b",
    "blank": "#8795a1",
    "exclude": "#b9c2ca",
}
CONTROL_ORDER = [*CONTROLS, "sample"]

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    # Names of compounds are text, never formulae: a lone $ would otherwise stop the page.
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.color": "#b9c2ca",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    # The ids inside an SVG are random without it, and equal results would give unequal pages.
    "svg.hashsalt": "plateline",
}
# Measured in the font that matplotlib brings along, shown in the reader's own, which is never wider.
_FONTS = "system-ui, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


def draw(width_in: float, height_in: float, paint: Callable[[Figure], None]) -> bytes:
    """SVG of a figure of the given size (inches) that `paint` has filled; the same input gives the same bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width_in, height_in))
        paint(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return buffer.getvalue().replace(b"'DejaVu Sans'", _FONTS.encode())


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes placed by inches from the lower left corner of the figure."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """PNG of an (Y, X, 3) uint8 picture."""
    buffer = io.BytesIO()
    image.imsave(buffer, pixels, format="png")
    return buffer.getvalue()


def plain(text: object, most: int = 40) -> str:
    """Text that any figure can hold: one line, no control characters (they break XML), cut with an ellipsis."""
    line = " ".join("".join(" " if unicodedata.category(c)[0] == "C" else c for c in str(text)).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def readable(readout: str, most: int = 40) -> str:
    """Name of a readout as a reader writes it: ``log2_ratio`` -> ``log2 ratio``."""
    return plain(readout.replace("_", " "), most)


def written_unit(name: object) -> str:
    """Unit as it is printed: ``uM`` -> ``µM``."""
    return plain(name, 12).replace("uM", "µM")


def file_stem(text: str) -> str:
    """Letters, digits and hyphens of a name, for a file name; may be empty, so callers number their files."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:40]
