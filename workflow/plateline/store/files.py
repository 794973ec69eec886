"""Whole files written at once, and small ones read: arrays, pages, JSON, plate maps."""

import csv
import io
import json
import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pandas as pd

from plateline.errors import ConfigError, PlatemapError
from plateline.run import writing


def temporary(path: Path) -> Path:
    """Name beside a file for what is not finished; host, process and job keep two writers apart."""
    job = os.environ.get("SLURM_JOB_ID", "local")
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{job}.tmp")


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write beside the file, flush to disk, then rename: a reader sees the old file or the new one, never half."""
    path = Path(path)
    unfinished = temporary(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(unfinished)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def save_json(value: dict, path: str | Path) -> None:
    """Save a dictionary as indented JSON; what is not finite becomes null."""
    text = json.dumps(_finite(value), indent=1, allow_nan=False)
    write_whole(path, lambda file: file.write_text(text))


def _finite(value):
    """The value with NaN and infinities as None, which JSON has, and NumPy scalars as Python's."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def save_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Save a table for people and spreadsheets, as CSV; text that a spreadsheet would run gets an apostrophe."""
    text = frame.select_dtypes(exclude="number").columns
    harmless = frame.copy()
    for name in text:
        harmless[name] = ["'" + v if isinstance(v, str) and v[:1] in tuple("=+@\t\r") else v for v in frame[name]]
    write_whole(path, lambda file: harmless.to_csv(file, index=False))


def save_array(array: npt.NDArray, path: str | Path) -> None:
    """Save an array as NPY, without pickles."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_whole(path, lambda file: file.write_bytes(buffer.getvalue()))


def save_pages(pages: dict[str, bytes], folder: str | Path) -> None:
    """Save a page and its pictures, and remove pictures of an earlier run; `index.html` comes last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.is_file() and old.suffix in {".png", ".svg", ".html"} and old.name not in pages:
            old.unlink()
    for name in sorted(pages, key=lambda name: name == "index.html"):
        write_whole(folder / name, partial(Path.write_bytes, data=pages[name]))


def read_texts(paths: Iterable[str | Path]) -> dict[str, str]:
    """Text of UTF-8 files by their names."""
    return {Path(path).name: Path(path).read_text(encoding="utf-8") for path in paths}


def read_json(path: str | Path) -> dict | list:
    """What was saved as JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_values(path: str | Path, what: str = "plate map") -> pd.DataFrame:
    """Cells of a CSV, TSV or XLSX table as text, as a person typed them; blank cells are empty text.

    `what` the table is goes into the message.

    Raises
    ------
    PlatemapError
        If the file is no such table.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".xlsx":
            return pd.read_excel(path, dtype=str, keep_default_na=False)
        separator = "\t" if path.suffix.lower() in {".tsv", ".txt"} else ","
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        if not isinstance(table.index, pd.RangeIndex):  # pandas would take the first column for names of rows
            msg = "its lines have more cells than its header"
            raise ValueError(msg)
        return table
    except (ValueError, OSError, KeyError, BadZipFile) as error:
        msg = f"{what} {path} cannot be read as a table ({error}); expected CSV, TSV or XLSX with a header line"
        raise PlatemapError(msg) from error


def read_mapping(paths: Iterable[str]) -> dict[str, str]:
    """Names of columns, theirs -> ours, from tables with the columns `theirs` and `ours`.

    Raises
    ------
    ConfigError
        If a column is missing.
    """
    names: dict[str, str] = {}
    for path in paths:
        table = read_values(path, "mapping of columns")
        if not {"theirs", "ours"} <= set(table.columns):
            msg = (
                f"profile.imported.columns_file: {path} has {list(table.columns)}; expected the columns theirs and ours"
            )
            raise ConfigError(msg)
        names |= dict(zip(table["theirs"], table["ours"].str.strip(), strict=True))
    return names


def read_sheets(path: str | Path) -> dict[str, pd.DataFrame]:
    """All cells of a CSV, TSV or XLSX file as text, without header, by the names of its sheets.

    A text file is one sheet without a name; its shorter lines are filled up with blank cells.

    Raises
    ------
    PlatemapError
        If the file is no such table, or a line of text ends inside quotes.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".xlsx":
            sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=str, keep_default_na=False)
            return {str(name): cells.astype(object) for name, cells in sheets.items()}
        separator = "\t" if path.suffix.lower() in {".tsv", ".txt"} else ","
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter=separator, strict=True))
        width = max(map(len, lines), default=0)
        filled = [line + [""] * (width - len(line)) for line in lines]
        return {"": pd.DataFrame(filled, columns=range(width), dtype=object)}
    except MemoryError:
        raise
    except Exception as error:  # a broken workbook fails its reader in ways of its own
        msg = f"plate map {path} cannot be read as a table ({error}); expected CSV, TSV or XLSX (config/README.md)"
        raise PlatemapError(msg) from error
