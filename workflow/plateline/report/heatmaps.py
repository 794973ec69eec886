"""Pictures in the shape of a plate: the layout, a readout as a heat map, and the small one of the screen page."""

from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colors, patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from plateline.identity import SHAPES, fit_shape, row_letters, row_number, well_name
from plateline.report.canvas import COMPOUNDS, CONTROLS, INK, MUTED, axes_at, draw, plain, written_unit

_MAP = matplotlib.colormaps["YlGnBu"]
_WIDTH, _LEFT, _WELLS_WIDE, _WELLS_HIGH = 7.8, 0.35, 6.55, 3.2
# A number fits into a well of up to 12 columns.
_MOST_COLUMNS_WITH_TEXT = 12
_KEYS_ACROSS = 4
_ABSENT: dict[str, Any] = {"facecolor": "#f4f6f7", "edgecolor": "#c4ccd2", "hatch": "////", "linewidth": 0}
_FAILED: dict[str, Any] = {"facecolor": "none", "edgecolor": "#b08a8a", "hatch": "xxxx", "linewidth": 0}


def colour_limits(values: npt.ArrayLike) -> tuple[float, float]:
    """The 1st and 99th percentile of the finite values, so that one odd well does not flatten the plate.

    (0, 1) where there is none. Equal values are widened by a hair, so that a scale can always be drawn.
    """
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(numbers, [1, 99]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def grid_of(wells: list[str], values: npt.ArrayLike, shape: int) -> npt.NDArray[np.float64]:
    """Values laid out as the plate, (row, column) float64; NaN where there is no well. A well named twice: the last."""
    grid = np.full(SHAPES[shape], np.nan)
    rows = np.array([row_number(well[:-2]) for well in wells], dtype=int)
    columns = np.array([int(well[-2:]) - 1 for well in wells], dtype=int)
    grid[rows, columns] = np.asarray(values, dtype=float)
    return grid


def heatmap(wells: pd.DataFrame, column: str, *, name: str, limits: tuple[float, float]) -> bytes:
    """SVG of one column of the well table in plate layout.

    Parameters
    ----------
    wells : DataFrame
        One plate's wells; control wells get an edge, wells that are not ``ok`` a cross, absent wells a hatching.
    column : str
        Column of numbers; NaN is drawn as an empty well.
    name : str
        Written at the colour scale.
    limits : (float, float)
        Values at both ends of the colour scale; beyond them the colour stays.
    """
    names = wells["Metadata_Well"].tolist()
    shape = fit_shape(names)
    values = grid_of(names, wells[column], shape)

    keys = _keys(wells, shape, failed=True)
    foot = _foot(keys)

    def paint(figure: Figure) -> None:
        axes = _plate_axes(figure, shape, foot)
        scale = colors.Normalize(*limits)
        mesh = axes.pcolormesh(values, cmap=_MAP, norm=scale, edgecolors="white", linewidth=12 / SHAPES[shape][1])
        if SHAPES[shape][1] <= _MOST_COLUMNS_WITH_TEXT:
            _write_values(axes, values, scale)
        _hatch(axes, _absent(names, shape), _ABSENT)
        _hatch(axes, wells.loc[wells["Metadata_Status"] != "ok", "Metadata_Well"].tolist(), _FAILED)
        _outline_controls(axes, wells, shape)
        bar = figure.colorbar(mesh, cax=axes_at(figure, _LEFT + _WELLS_WIDE + 0.18, foot, 0.11, _WELLS_HIGH))
        bar.outline.set_visible(False)
        bar.set_label(name)
        _legend(figure, keys, foot)

    return draw(_WIDTH, foot + _WELLS_HIGH + 0.3, paint)


def layout(wells: pd.DataFrame) -> bytes:
    """SVG of what is in each well: one colour per compound (up to eight), darker with the dose, controls as edges."""
    names = wells["Metadata_Well"].tolist()
    shape = fit_shape(names)
    samples = wells[wells["Metadata_ControlType"] == "sample"]
    compounds = [name for name in dict.fromkeys(samples["Metadata_Compound"]) if name]
    few = len(compounds) <= len(COMPOUNDS)
    hues = dict(zip(compounds, COMPOUNDS if few else COMPOUNDS[:1] * len(compounds), strict=False))
    keys = [_compound_key(samples, compound, hue) for compound, hue in hues.items()] if few else []
    if not few:
        keys = [
            Patch(color=COMPOUNDS[0], alpha=0.6, label=f"sample, {len(samples)} wells of {len(compounds)} compounds")
        ]
    keys += _keys(wells, shape, failed=False)
    foot = _foot(keys)

    def paint(figure: Figure) -> None:
        axes = _plate_axes(figure, shape, foot)
        _fill_doses(axes, samples, hues)
        _hatch(axes, _absent(names, shape), _ABSENT)
        _outline_controls(axes, wells, shape)
        if SHAPES[shape][1] <= _MOST_COLUMNS_WITH_TEXT:
            _write_contents(axes, wells)
        _legend(figure, keys, foot)

    return draw(_WIDTH, foot + _WELLS_HIGH + 0.3, paint)


def thumbnail(wells: pd.DataFrame, column: str, *, limits: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Small picture, (Y, X, 3) uint8, of one column in plate layout: a block per well, grey where there is no value."""
    names = wells["Metadata_Well"].tolist()
    values = grid_of(names, wells[column], fit_shape(names))
    shades = _MAP(colors.Normalize(*limits, clip=True)(values))[..., :3]
    shades[~np.isfinite(values)] = 0.93
    block = 288 // values.shape[1]
    picture = np.kron(shades, np.ones((block, block, 1)))
    if block > 4:
        picture[::block] = picture[:, ::block] = 1.0
    return (picture * 255).round().astype(np.uint8)


def _foot(keys: list[Patch]) -> float:
    """Height of the legend below the wells, inches."""
    return 0.12 + 0.19 * -(-len(keys) // _KEYS_ACROSS)


def _plate_axes(figure: Figure, shape: int, foot: float) -> Axes:
    rows, columns = SHAPES[shape]
    axes = axes_at(figure, _LEFT, foot, _WELLS_WIDE, _WELLS_HIGH)
    step = 2 if shape == 1536 else 1
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.set_xticks(np.arange(0, columns, step) + 0.5, [str(c + 1) for c in range(0, columns, step)])
    axes.set_yticks(np.arange(0, rows, step) + 0.5, [row_letters(r) for r in range(0, rows, step)])
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False, labelsize=8 - step + 1)
    axes.spines[:].set_visible(False)
    return axes


def _boxes(wells: list[str], inset: float) -> list[Rectangle]:
    side = 1 - 2 * inset
    return [Rectangle((int(w[-2:]) - 1 + inset, row_number(w[:-2]) + inset), side, side) for w in wells]


def _outline_controls(axes: Axes, wells: pd.DataFrame, shape: int) -> None:
    width = 1.6 if shape <= 384 else 0.8
    # White on both sides keeps the edge visible on dark and light wells alike.
    halo = [patheffects.withStroke(linewidth=width + 1.2, foreground="white")]
    for kind, colour in CONTROLS.items():
        boxes = _boxes(wells.loc[wells["Metadata_ControlType"] == kind, "Metadata_Well"].tolist(), 0.08)
        edges = PatchCollection(boxes, facecolor="none", edgecolor=colour, linewidth=width, path_effects=halo)
        axes.add_collection(edges)


def _hatch(axes: Axes, wells: list[str], look: dict[str, Any]) -> None:
    axes.add_collection(PatchCollection(_boxes(wells, 0.06), **look))


def _absent(wells: list[str], shape: int) -> list[str]:
    rows, columns = SHAPES[shape]
    present = set(wells)
    return [well for r in range(rows) for c in range(columns) if (well := well_name(r, c)) not in present]


def _keys(wells: pd.DataFrame, shape: int, *, failed: bool) -> list[Patch]:
    """Legend of the control wells, the wells the plate lacks and, if asked, those that are not ok, each with its n."""
    kinds = wells["Metadata_ControlType"].value_counts()
    edges = {kind: colour for kind, colour in CONTROLS.items() if kind in kinds}
    keys = [
        Patch(facecolor="none", edgecolor=edge, linewidth=1.6, label=f"{k}, {kinds[k]}") for k, edge in edges.items()
    ]
    absent, bad = len(_absent(wells["Metadata_Well"].tolist(), shape)), int((wells["Metadata_Status"] != "ok").sum())
    keys += [Patch(**_ABSENT, label=f"no well, {absent}")] if absent else []
    return keys + ([Patch(**_FAILED, label=f"not ok, {bad}")] if failed and bad else [])


def _write_values(axes: Axes, values: npt.NDArray[np.float64], scale: Callable[[float], float]) -> None:
    largest = np.nanmax(np.abs(values), initial=0.0) if np.isfinite(values).any() else 0.0
    digits = 2 if largest < 10 else 1 if largest < 100 else 0
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = scale(value) > 0.55
            axes.text(
                column + 0.5,
                row + 0.52,
                f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else INK,
            )


def _fill_doses(axes: Axes, samples: pd.DataFrame, hues: dict[str, str]) -> None:
    doses = samples.groupby("Metadata_Compound")["Metadata_Concentration"].rank(method="dense")
    highest = doses.groupby(samples["Metadata_Compound"]).transform("max")
    strength = (0.18 + 0.62 * (doses - 1) / (highest - 1).clip(lower=1)).fillna(0.5)
    shades = [
        colors.to_rgba(hues.get(compound, MUTED), alpha)
        for compound, alpha in zip(samples["Metadata_Compound"], strength, strict=True)
    ]
    axes.add_collection(PatchCollection(_boxes(samples["Metadata_Well"].tolist(), 0.04), facecolors=shades))


def _compound_key(samples: pd.DataFrame, compound: str, hue: str) -> Patch:
    wells = samples[samples["Metadata_Compound"] == compound]
    doses = wells["Metadata_Concentration"].dropna()
    unit = written_unit(next(iter(wells["Metadata_ConcentrationUnit"]), ""))
    span = f", {doses.min():.3g} to {doses.max():.3g} {unit}" if len(doses) else ""
    return Patch(color=hue, alpha=0.6, label=plain(compound, 24) + plain(span))


def _write_contents(axes: Axes, wells: pd.DataFrame) -> None:
    for well, kind, dose in zip(
        wells["Metadata_Well"], wells["Metadata_ControlType"], wells["Metadata_Concentration"], strict=True
    ):
        text = (f"{dose:.3g}" if np.isfinite(dose) else "") if kind == "sample" else str(kind)[:3]
        axes.text(int(well[-2:]) - 0.5, row_number(well[:-2]) + 0.52, text, ha="center", va="center", fontsize=7)


def _legend(figure: Figure, keys: list[Patch], foot: float) -> None:
    width, height = figure.get_size_inches()
    # Matplotlib fills columns first; a reader expects rows.
    rows = -(-len(keys) // _KEYS_ACROSS)
    across = [keys[i] for c in range(_KEYS_ACROSS) for i in range(c, len(keys), _KEYS_ACROSS)] if rows > 1 else keys
    figure.legend(
        handles=across,
        loc="upper left",
        bbox_to_anchor=(_LEFT / width, (foot - 0.06) / height),
        ncols=_KEYS_ACROSS,
        handlelength=1.3,
        columnspacing=1.6,
        borderpad=0,
        borderaxespad=0,
    )
