"""Text tables of other programs: CSV, TSV and their gzipped forms, with or without lines above the header.

Reads in blocks. Lines above the header, as Harmony and MetaXpress write them, are kept as facts (`Plate Name`).
"""

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pv

from plateline.errors import SourceError

BLOCK_BYTES = 1 << 24
# Lines in which a header is looked for.
_TOP = 40
_MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None", "#N/A", "-nan", "1.#IND", "-1.#IND"]
# Words that stay text though they may look like numbers, as a barcode 0017 does.
_NAMES = re.compile(r"plate|barcode|well|compound|batch|inchi|vendor|catalog", re.IGNORECASE)


def read(path: str) -> tuple[Iterator[pa.RecordBatch], dict[str, str]]:
    """Blocks of rows of a text table, and the facts that stand above its header.

    Raises
    ------
    SourceError
        If the file is no such table.
    """
    lines, encoding = _top_lines(path)
    above, delimiter = _find_header(lines)
    facts = dict(line.split(delimiter)[:2] for line in lines[:above] if line.count(delimiter))
    try:
        return _blocks(path, above, delimiter, encoding), {key.strip(): value.strip() for key, value in facts.items()}
    except (pa.ArrowInvalid, OSError) as error:
        raise _refused(path, error) from error


def _refused(path: str, error: Exception) -> SourceError:
    msg = (
        f"{path} cannot be read as a table ({error}); expected CSV or TSV with a header line and a row per well or cell"
    )
    return SourceError(msg)


def _top_lines(path: str) -> tuple[list[str], str]:
    """The first lines of a file and its encoding."""
    opened = gzip.open if path.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            top = file.read(1 << 20)
    except (OSError, EOFError) as error:
        raise _refused(path, error) from error
    try:
        # A block may end within a letter.
        text, encoding = top[: top.rfind(b"\n") + 1 or None].decode("utf-8-sig"), "utf8"
    except UnicodeDecodeError:
        text, encoding = top.decode("latin-1"), "latin-1"
    if not text.strip():
        msg = f"{path} is empty; expected a table with a header line"
        raise SourceError(msg)
    return text.splitlines()[:_TOP], encoding


def _find_header(lines: list[str]) -> tuple[int, str]:
    """Number of lines above the header, and what parts its cells."""
    if "[Data]" in (marks := [line.strip() for line in lines]):
        above = marks.index("[Data]") + 1
        return above, max("\t,;", key=lines[above].count)
    delimiter = max("\t,;", key=lambda mark: max(line.count(mark) for line in lines))
    widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter)] + [0]
    # The header is as wide as the line below it; what stands above is narrower.
    headed = [width if width == below else 0 for width, below in pairwise(widths)]
    judged = headed if any(headed) else widths
    return judged.index(max(judged)), delimiter


def _blocks(path: str, above: int, delimiter: str, encoding: str) -> Iterator[pa.RecordBatch]:
    reading = pv.ReadOptions(skip_rows=above, block_size=BLOCK_BYTES, encoding=encoding, use_threads=False)
    parsing = pv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    words = {"null_values": _MISSING, "strings_can_be_null": True, "decimal_point": "," if delimiter == ";" else "."}
    with _stream(path) as stream:
        schema = pv.open_csv(stream, reading, parsing, pv.ConvertOptions(**words)).schema
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        msg = f"{path} has more than one column {twice[0]!r}; expected each name once"
        raise SourceError(msg)
    types = {field.name: _wider(field) for field in schema}
    return _convert(path, reading, parsing, pv.ConvertOptions(column_types=types, **words))


def _convert(
    path: str, reading: pv.ReadOptions, parsing: pv.ParseOptions, converting: pv.ConvertOptions
) -> Iterator[pa.RecordBatch]:
    try:
        with _stream(path) as stream:
            yield from pv.open_csv(stream, reading, parsing, converting)
    except (pa.ArrowInvalid, OSError) as error:
        raise _refused(path, error) from error


def _stream(path: str) -> pa.NativeFile:
    return pa.input_stream(path, compression="gzip" if Path(path).suffix.lower() == ".gz" else None)


def _wider(field: pa.Field) -> pa.DataType:
    """Type that later blocks fit as well: whole numbers may go on as fractions, blanks as anything."""
    if _NAMES.search(field.name) and not pa.types.is_floating(field.type):
        return pa.string()
    if pa.types.is_integer(field.type) or pa.types.is_boolean(field.type) or pa.types.is_null(field.type):
        return pa.float64()
    return field.type if pa.types.is_floating(field.type) else pa.string()
