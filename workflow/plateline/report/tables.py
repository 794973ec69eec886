"""Frames as the tables of a page: chosen columns, numbers as text, a limit with a sentence about the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Table:
    """What the macro ``table`` draws: headings, each with whether it is of numbers, rows of text, words below."""

    head: list[tuple[str, bool]]
    rows: list[list[str]]
    rest: str = ""
    notes: tuple[str, ...] = ()


def text(value: Any) -> str:
    """Text as it is; nothing for missing values."""
    return "" if value is None or value is pd.NA or value != value else str(value)


def number(value: Any) -> str:
    """Three significant digits, thousands apart; an en dash for NaN."""
    value = np.nan if value is None or value is pd.NA else float(value)
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞" if value > 0 else "−∞"
    size = abs(value)
    if value and not 1e-3 <= size < 1e6:
        return f"{value:.2e}".replace("-", "−")
    digits = max(0, 2 - int(np.floor(np.log10(size)))) if size else 0
    return f"{value:,.{digits}f}".replace("-", "−")


def count(value: Any) -> str:
    """Whole number, thousands apart; an en dash for NaN."""
    return number(value) if not np.isfinite(float(value)) else f"{int(value):,}".replace("-", "−")


def share(value: Any) -> str:
    """Probability or share with two digits, never rounded to zero; an en dash for NaN."""
    value = float(value)
    return "–" if np.isnan(value) else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}".replace("-", "−")


def span(value: Any) -> str:
    """An interval or an answer that is text already, but stands among the numbers."""
    return text(value)


def yes(value: Any) -> str:
    """``yes`` or nothing."""
    return "yes" if value is True or value is np.True_ else ""


def interval(low: float, high: float) -> str:
    """``0.75 to 0.93``; nothing where either is NaN."""
    return "" if not (float(low) == low and float(high) == high) else f"{number(low)} to {number(high)}"


def table(frame: pd.DataFrame, columns: dict[str, tuple[str, Callable]], *, most: int = 10**9, rest: str = "") -> Table:
    """Chosen columns of a frame, in order.

    Parameters
    ----------
    frame : DataFrame
        Any; columns it lacks are shown empty.
    columns : dict of str to (str, callable)
        Heading -> (column, how to write a value); every way but `text` and `yes` makes a column of numbers.
    most : int
        Rows shown at most.
    rest : str
        Where the other rows stand.
    """
    shown = frame.head(most)
    cells = [[write(v) for v in shown[c]] if c in shown else [""] * len(shown) for c, write in columns.values()]
    head = [(heading, write not in (text, yes)) for heading, (_, write) in columns.items()]
    more = f"{len(shown)} of {len(frame)} rows shown; all stand in {rest}." if len(frame) > len(shown) else ""
    return Table(head, [list(row) for row in zip(*cells, strict=True)], more)


def used(columns: dict[str, tuple[str, Callable]], frame: pd.DataFrame) -> dict[str, tuple[str, Callable]]:
    """The columns without those text columns in which no row says anything, and without a plate that is always one."""

    def speaks(column: str, write: Callable) -> bool:
        if column == "Metadata_Plate":
            return frame[column].nunique() > 1
        return write not in (text, yes) or any(write(value) for value in frame.get(column, []))

    return {heading: (column, write) for heading, (column, write) in columns.items() if speaks(column, write)}


def notes_of(frame: pd.DataFrame, *names: str) -> tuple[str, ...]:
    """Each distinct ``reason`` of a table once, after the rows it holds for, named by the columns `names`."""
    said = frame[frame["reason"] != ""]
    who = said[list(names)].astype(str).agg(" ".join, axis=1) if len(said) else said["reason"]
    return tuple(f"{listed(rows)}: {reason}." for reason, rows in who.groupby(said["reason"], sort=False))


def listed(names: pd.Series, most: int = 12) -> str:
    """The different names, sorted, the first of them by name and the others by number."""
    distinct = sorted(set(names) - {""})
    return ", ".join(distinct[:most]) + (f" and {len(distinct) - most} more" if len(distinct) > most else "")
