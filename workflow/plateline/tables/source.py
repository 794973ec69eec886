"""Somebody else's table of a plate, opened: which rows are the plate's, who they are, and their features on demand.

Every format becomes a dataset of Arrow blocks; what does not fit into memory is laid down in a temporary Parquet file
first, so that columns can be read a few at a time. Rows keep the order of the files.
"""

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from plateline.errors import PlatelineError, SourceError
from plateline.identity import PREFIX, parse_well
from plateline.tables import arrays, conventions, delimited

# What is held in memory of a text table before it is laid down on disk.
HELD_BYTES = 1 << 28
BLOCK_ROWS = 32_768
PLACE = ["Metadata_Well", "Metadata_Site", "Metadata_Timepoint"]


@dataclass(frozen=True)
class Source:
    """The rows of one plate.

    Attributes
    ----------
    data : pyarrow.dataset.Dataset
    rows : pyarrow.compute.Expression or None
        Which rows are the plate's.
    names : dict of str to str
        Our names of the columns -> theirs.
    shape : int
        Wells of the plate.
    kept : object
        Keeps a temporary folder until the source is forgotten.
    """

    data: ds.Dataset
    rows: pc.Expression | None
    names: dict[str, str]
    shape: int
    kept: object = None

    @property
    def features(self) -> list[str]:
        """Our names of the columns that are features."""
        return [name for name in self.names if not name.startswith(PREFIX)]


def open_source(
    paths: Iterable[str], root: str, *, plate: str, barcode: str, shape: int, columns: dict[str, str]
) -> Source:
    """A plate's rows of one or more files of one kind.

    Parameters
    ----------
    paths : iterable of str
        Files of the plate, or files that hold it among others.
    root : str
        The source as the sheet names it.
    plate, barcode : str
        Either may stand in the table's column of plates; a table without such a column is the plate's.
    shape : int
        Wells of the plate.
    columns : dict of str to str
        As in `conventions.rename`.

    Raises
    ------
    SourceError
        If there is no file, the files are not of one kind, the table has no wells, no features or no such plate.
    """
    data, kept = _open_all(list(paths), root, plate)
    text = {field.name for field in data.schema if not _is_number(field.type)}
    names = {ours: theirs for theirs, ours in conventions.rename(data.schema.names, text, columns).items()}
    if "Metadata_Well" not in names and not {"Metadata_Row", "Metadata_Column"} <= set(names):
        known = ", ".join(data.schema.names[:8])
        msg = f"{root}: no column of wells among {known}, ...; name it in profile.imported.columns, as `Position: Well`"
        raise SourceError(msg)
    source = Source(data, _rows_of(data, names, root, {plate, barcode} - {""}), names, shape, kept)
    if not source.features:
        msg = f"{root}: plate {plate} has no column of numbers that is a feature; it has {', '.join(names)}"
        raise SourceError(msg)
    return source


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _open_all(paths: list[str], root: str, plate: str) -> tuple[ds.Dataset, object]:
    """One dataset of all files, and what must be kept for it."""
    if not paths:
        msg = f"{root}: no table for plate {plate}; expected Parquet, CSV, TXT, NPZ or H5AD: see profile.imported.file"
        raise SourceError(msg)
    if all(path.lower().endswith(".parquet") for path in paths):
        try:
            pieces = [ds.dataset(path, format="parquet") for path in paths]
        except (pa.ArrowInvalid, OSError) as error:
            msg = f"{root} cannot be read as Parquet ({error})"
            raise SourceError(msg) from error
        _same_columns([(path, piece.schema.names) for path, piece in zip(paths, pieces, strict=True)])
        return (pieces[0] if len(pieces) == 1 else ds.dataset(pieces)), None
    return _hold(_all_blocks(paths, root))


def _all_blocks(paths: list[str], root: str) -> Iterator[pa.RecordBatch]:
    """Blocks of all files one after the other, all of the first one's columns."""
    first: tuple[str, list[str]] | None = None
    for path in paths:
        blocks = _blocks(path, root)
        for block in blocks:
            first = first or (path, block.schema.names)
            _same_columns([first, (path, block.schema.names)])
            yield block.select(first[1])


def _same_columns(files: list[tuple[str, list[str]]]) -> None:
    (first, names), *others = files
    for path, other in others:
        if differ := sorted(set(names) ^ set(other)):
            msg = (
                f"{first} and {path} are no parts of one table: {len(differ)} columns are not in both, as "
                f"{differ[0]!r}; choose the files with profile.imported.file"
            )
            raise SourceError(msg)


def _blocks(path: str, root: str) -> Iterator[pa.RecordBatch]:
    """Blocks of one file."""
    if path.lower().endswith(".npz"):
        return iter([arrays.read_deepprofiler(path, root)])
    if path.lower().endswith(".h5ad"):
        return arrays.read_anndata(path)
    blocks, facts = delimited.read(path)
    plate = facts.get("Plate Name") or facts.get("Plate ID") or facts.get("Barcode")
    return (_with_plate(block, plate) for block in blocks) if plate else blocks


def _with_plate(block: pa.RecordBatch, plate: str) -> pa.RecordBatch:
    """A block with the plate that the lines above its header name, where it has no such column."""
    if any(conventions.rename([name], set(), {})[name] == "Metadata_Plate" for name in block.schema.names):
        return block
    return block.append_column("Metadata_Plate", pa.array([plate] * block.num_rows))


def _hold(blocks: Iterator[pa.RecordBatch]) -> tuple[ds.Dataset, object]:
    """Blocks as a dataset: in memory while they are small, else in a temporary Parquet file."""
    held: list[pa.RecordBatch] = []
    for block in blocks:
        held.append(block)
        if sum(one.nbytes for one in held) > HELD_BYTES:
            break
    else:
        return ds.dataset(pa.Table.from_batches(held)) if held else ds.dataset(pa.table({})), None
    folder = tempfile.TemporaryDirectory(prefix="plateline-")
    path = Path(folder.name, "rows.parquet")
    with pq.ParquetWriter(path, held[0].schema, compression="zstd", use_dictionary=False) as writer:
        while held:
            writer.write_batch(held.pop(0), row_group_size=BLOCK_ROWS)
        for block in blocks:
            writer.write_batch(block, row_group_size=BLOCK_ROWS)
    return ds.dataset(path, format="parquet"), folder


def _rows_of(data: ds.Dataset, names: dict[str, str], root: str, plates: set[str]) -> pc.Expression | None:
    """Which rows are those of the plate."""
    if "Metadata_Plate" not in names:
        return None
    column = names["Metadata_Plate"]
    found: set[str] = set()
    for block in data.to_batches(columns=[column], batch_readahead=1):
        found |= set(pc.unique(block[column]).cast(pa.string()).to_pylist())
    if not found & plates:
        known = ", ".join(sorted(map(str, found))[:8])
        msg = f"{root}: no row of plate {' or '.join(sorted(plates))}; its {len(found)} plates are {known}"
        raise SourceError(msg)
    return pc.field(column).cast(pa.string()).isin(sorted(found & plates))


def _scan(source: Source, ours: list[str]) -> Iterator[pd.DataFrame]:
    """Blocks of the plate's rows, some columns, under our names."""
    theirs = {source.names[name]: name for name in ours}
    scanner = source.data.scanner(
        columns=list(theirs),
        filter=source.rows,
        batch_size=BLOCK_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
        use_threads=False,
    )
    for block in scanner.to_batches():
        yield block.to_pandas(ignore_metadata=True).rename(columns=theirs)


def read_identity(source: Source) -> pd.DataFrame:
    """Who every row of the plate is.

    Returns
    -------
    DataFrame
        `Metadata_Well` (categorical; NaN where the row names none), `Metadata_Site` (0 where the table has none),
        `Metadata_Timepoint` (0 likewise), int64; `Metadata_Object_Count`, float64, where the table has it; one row per
        row of the plate, in its order.

    Raises
    ------
    SourceError
        If a well is none or not on the plate.
    """
    wanted = [name for name in (*PLACE, "Metadata_Row", "Metadata_Column") if name in source.names]
    codes: dict[object, int] = {}
    wells: list[npt.NDArray[np.int32]] = []
    numbers: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in PLACE[1:]}
    for block in _scan(source, wanted):
        keys = _well_texts(block)
        wells.append(np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int32))
        for name, parts in numbers.items():
            parts.append(_whole(block[name]) if name in block else np.zeros(len(block), dtype=np.int64))
    names = [_parse(str(key), source.shape) if isinstance(key, str) else None for key in codes]
    known = sorted({name for name in names if name})
    places = np.array([known.index(name) if name else -1 for name in names] or [-1], dtype=np.int32)
    of_row = np.concatenate([*wells, np.zeros(0, np.int32)])
    frame = {"Metadata_Well": pd.Categorical.from_codes(places[of_row] if len(of_row) else of_row, known)}
    frame |= {name: np.concatenate([*parts, np.zeros(0, np.int64)]) for name, parts in numbers.items()}
    if "Metadata_Object_Count" in source.names:
        every = np.ones(len(of_row), dtype=bool)
        frame["Metadata_Object_Count"] = read_columns(source, ["Metadata_Object_Count"], every).iloc[:, 0]
    return pd.DataFrame(frame)


def _well_texts(block: pd.DataFrame) -> list[str | None]:
    """What each row says of its well, None where it says nothing."""
    if "Metadata_Well" in block:
        return [str(text) if isinstance(text, str) and text.strip() else None for text in block["Metadata_Well"]]
    rows, columns = block["Metadata_Row"], block["Metadata_Column"]
    pairs = zip(rows, columns, strict=True)
    return [None if row != row or column != column else f"{_cell(row)}|{_cell(column)}" for row, column in pairs]


def _cell(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _parse(text: str, shape: int) -> str:
    """Canonical name of a well: `A - 1`, `A:01` or `2|3` (row and column) as well as what plate maps hold."""
    row, _, column = text.partition("|")
    plain = f"R{row}C{column}" if column and row.isdigit() else re.sub(r"[\s|:_-]+", "", text)
    try:
        return parse_well(plain, shape)
    except PlatelineError as error:
        msg = f"profiles, column of wells: {error}; correct the table or `shape` in the plate sheet"
        raise SourceError(msg) from error


def _whole(values: pd.Series) -> npt.NDArray[np.int64]:
    """Whole numbers of sites and times: `f03` is 3, nothing is 0."""
    if not pd.api.types.is_numeric_dtype(values):
        values = pd.to_numeric(values.astype(str).str.extract(r"(\d+)")[0])
    return values.fillna(0).to_numpy(dtype=np.int64)


def read_metadata(source: Source, wells: pd.Series) -> pd.DataFrame:
    """What the table says of its wells beside features: columns with one value per well, one row per well.

    Parameters
    ----------
    source : Source
    wells : Series
        From `read_identity`.
    """
    place = {*PLACE, "Metadata_Plate", "Metadata_Row", "Metadata_Column", "Metadata_ObjectNumber"}
    wanted = [name for name in source.names if name.startswith(PREFIX) and name not in place]
    ends, start = [pd.DataFrame(columns=["Metadata_Well", *wanted], dtype=object)], 0
    for block in _scan(source, wanted) if wanted else ():
        own = block.assign(Metadata_Well=wells.iloc[start : start + len(block)].astype(object).to_numpy())
        groups = own.groupby("Metadata_Well")
        ends += [groups.first().reset_index().astype(object), groups.last().reset_index().astype(object)]
        start += len(block)
    wells_of = pd.concat(ends).groupby("Metadata_Well")
    # What differs between the first and the last cell of a well, as a file or a place, says nothing of the well.
    of_wells = wells_of.nunique().max() <= 1 if len(wells) else pd.Series(True, index=wanted)
    joined = wells_of.first().loc[:, [name for name in wanted if of_wells[name]]]
    return joined.reindex(pd.Index(wells.cat.categories, name="Metadata_Well")).reset_index()


def read_columns(source: Source, names: list[str], rows: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Some columns of numbers of the plate's rows, float64, infinities as they are.

    Parameters
    ----------
    source : Source
    names : list of str
        Our names.
    rows : (N,) bool
        Which of the plate's rows to keep.
    """
    values, start, filled = np.empty((int(rows.sum()), len(names))), 0, 0
    for block in _scan(source, names) if names else ():
        kept = block[names].to_numpy(dtype=np.float64, na_value=np.nan)[rows[start : start + len(block)]]
        values[filled : filled + len(kept)] = kept
        start, filled = start + len(block), filled + len(kept)
    return pd.DataFrame(values, columns=names)
