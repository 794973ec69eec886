"""Dose-response curves as small multiples: wells as points, the fitted curve, and the EC50 with its interval."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plateline.hits import four_parameter
from plateline.identity import READOUT
from plateline.report.canvas import ACCENT, CONTROLS, INK, MUTED, RULE, axes_at, draw, plain, written_unit
from plateline.report.tables import number

_WIDTH = 7.8
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_EXPONENTS = {"M": 0, "mM": -3, "uM": -6, "µM": -6, "μM": -6, "nM": -9, "pM": -12}


def dose_curves(wells: pd.DataFrame, dose: pd.DataFrame, readout: str) -> bytes:
    """SVG with a panel for each row of `dose`, in its order, all at one response axis.

    Parameters
    ----------
    wells : DataFrame
        Wells of all plates with ``Metadata_Readout_{readout}``; only ``sample`` wells with status ``ok`` are points,
        the dashed lines are the medians of the negative and positive control wells.
    dose : DataFrame
        Rows of the dose-response table, of one readout, at least one.
    readout : str
        Name of the readout.
    """
    column = READOUT + readout
    ok = wells[(wells["Metadata_Status"] == "ok") & wells[column].notna()]
    samples = dict(list(ok[ok["Metadata_ControlType"] == "sample"].groupby("Metadata_Compound")))
    lines = (
        ok[ok["Metadata_ControlType"].isin(["negative", "positive"])].groupby("Metadata_ControlType")[column].median()
    )
    limits = _response_limits(ok[column])
    across = 2 if len(dose) <= 2 else 3 if len(dose) <= 6 else 4
    down = -(-len(dose) // across)
    width, height = _WIDTH / across, {2: 2.7, 3: 2.15, 4: 1.8}[across]

    def paint(figure: Figure) -> None:
        for i, fit in enumerate(dose.to_dict("records")):
            row, place = divmod(i, across)
            axes = axes_at(figure, place * width + 0.42, (down - 1 - row) * height + 0.4, width - 0.55, height - 0.85)
            axes.set_ylim(*limits)
            _panel(axes, samples.get(fit["Metadata_Compound"], ok.iloc[:0]), column, fit)
            _title(axes, fit, width=width)
            for kind, median in lines.items():
                axes.axhline(median, color=CONTROLS[kind], linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.7, zorder=1)

    return draw(_WIDTH, down * height, paint)


def answer(fit: dict[str, Any]) -> str:
    """What a row of the dose-response table says, in words: ``9.00 nM (7.60 to 10.8)`` or ``> 80.0 µM``."""
    kind, unit = fit["curve_class"], written_unit(fit["unit"])
    if not np.isfinite(fit["EC50"]):
        return "no bound on either side" if kind == "partial" else "not estimable"
    if fit["qualifier"] in ("<", ">"):
        bound = f"{fit['qualifier']} {number(fit['EC50'])} {unit}"
        return f"inactive, {bound}" if kind == "inactive" else bound
    low = number(fit["low"]) if np.isfinite(fit["low"]) and fit["low"] > 0 else "open"
    high = number(fit["high"]) if np.isfinite(fit["high"]) else "open"
    return f"{number(fit['EC50'])} {unit} ({low} to {high})"


def _response_limits(values: pd.Series) -> tuple[float, float]:
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _log10_dose(wells: pd.DataFrame, unit: str) -> npt.NDArray[np.float64]:
    """Log10 of the dose in `unit`: from molar where the unit is a molar one, as wells may be written in several."""
    if unit in _EXPONENTS:
        return wells["Metadata_log10_molar"].to_numpy(dtype=float) - _EXPONENTS[unit]
    dose = wells["Metadata_Concentration"].to_numpy(dtype=float)
    return np.log10(np.where(dose > 0, dose, np.nan))


def _panel(axes: Axes, wells: pd.DataFrame, column: str, fit: dict[str, Any]) -> None:
    x = _log10_dose(wells, str(fit["unit"]))
    y = wells[column].to_numpy(dtype=float)
    y = y[np.isfinite(x)]
    x = x[np.isfinite(x)]
    axes.plot(x, y, "o", color=ACCENT, markersize=3, alpha=0.55, markeredgewidth=0, zorder=3)
    if x.size:
        _dose_axis(axes, x.min(), x.max())
        _fitted(axes, x, y, fit)
    else:
        axes.set_xticks([])
    axes.set_xlabel(written_unit(fit["unit"]), labelpad=1)


def _fitted(axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], fit: dict[str, Any]) -> None:
    """The fitted curve, dashed where the doses do not bracket its EC50; the mean of the wells for a flat one."""
    if fit["curve_class"] == "inactive":
        axes.axhline(y.mean(), color=INK, linewidth=1.1)
    elif np.isfinite(fit["fitted_pEC50"]):
        bracketed = fit["qualifier"] == "="
        line = np.linspace(x.min(), x.max(), 100)
        shift = _EXPONENTS.get(str(fit["unit"]), 0)
        response = four_parameter(line + shift, fit["bottom"], fit["top"], fit["fitted_pEC50"], fit["hill"])
        axes.plot(line, response, color=INK, linewidth=1.2, linestyle="-" if bracketed else (0, (3, 2)), zorder=4)
        if bracketed:
            _mark_ec50(axes, fit)


def _mark_ec50(axes: Axes, fit: dict[str, Any]) -> None:
    # An open end of the interval is 0 or infinite: the band then runs to the edge of the panel.
    with np.errstate(divide="ignore"):
        band = np.clip(np.log10([fit["low"], fit["high"]]), *axes.get_xlim())
    axes.axvspan(*band, color=ACCENT, alpha=0.13, linewidth=0)
    axes.axvline(np.log10(fit["EC50"]), color=ACCENT, linewidth=0.9)


def _dose_axis(axes: Axes, low: float, high: float) -> None:
    margin = 0.06 * (high - low) or 0.5
    axes.set_xlim(low - margin, high + margin)
    powers = np.arange(np.ceil(low - margin), np.floor(high + margin) + 1)
    step = max(1, -(-len(powers) // 5))
    axes.set_xticks(powers[::step], [_power_of_ten(int(power)) for power in powers[::step]])
    minor = np.log10(np.outer(10.0 ** np.arange(np.floor(low) - 1, np.ceil(high) + 1), np.arange(2, 10))).ravel()
    axes.set_xticks(minor[(minor > low - margin) & (minor < high + margin)], minor=True)
    axes.tick_params(axis="x", which="minor", length=1.5, color=RULE)


def _power_of_ten(power: int) -> str:
    return f"{10.0**power:g}" if -3 <= power <= 4 else "10" + str(power).translate(_RAISED)


def _title(axes: Axes, fit: dict[str, Any], *, width: float) -> None:
    """Compound and n, then the EC50, above a panel `width` inches wide."""
    said = answer(fit)
    said = f"EC50 {said}" if said[0] in "<>0123456789" else said
    quiet: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "color": MUTED, "fontsize": 7}
    bold = quiet | {"fontsize": 8.5, "color": INK, "weight": "bold"}
    axes.annotate(plain(fit["Metadata_Compound"], int(width * 10) - 5), (0, 1), (0, 15), **bold)
    axes.annotate(f"n = {fit['n_wells']:.0f}", (1, 1), (0, 15), ha="right", **quiet)
    axes.annotate(plain(said, int(width * 16)), (0, 1), (0, 4), **quiet)
