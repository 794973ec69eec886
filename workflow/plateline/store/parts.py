"""A plate's wells in shares, and what a killed job has finished of one."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from plateline.run import writing
from plateline.store.files import temporary

LOG = logging.getLogger(__name__)


def share_wells(wells: Iterable[str], share: tuple[int, int]) -> list[str]:
    """Wells of one part: sorted wells cut into equal runs, so that every well is in exactly one part.

    Parameters
    ----------
    wells : iterable of str
        All wells of the plate; repeats count once.
    share : tuple of int
        Part, counted from 1, and number of parts.

    Examples
    --------
    >>> share_wells(["B01", "A01", "A02"], (1, 2)), share_wells(["B01", "A01", "A02"], (2, 2))
    (['A01'], ['A02', 'B01'])
    """
    ordered = sorted(set(wells))
    part, parts = share
    return ordered[(part - 1) * len(ordered) // parts : part * len(ordered) // parts]


@dataclass
class Part:
    """The wells of one job: `todo` still to do, the others committed by a job that was killed."""

    folder: Path
    wells: list[str]

    @property
    def todo(self) -> list[str]:
        """Wells without a commit, in order."""
        return [well for well in self.wells if not (self.folder / well).is_dir()]

    def commit(self, well: str, tables: dict[str, pd.DataFrame]) -> None:
        """Keep a well's tables, all or none: one rename makes them count."""
        unfinished = temporary(self.folder / well)
        with writing(self.folder / well):
            unfinished.mkdir(parents=True)
            for name, table in tables.items():
                # Read once and deleted: neither packing nor a dictionary of numbers pays.
                options = {"compression": None, "use_dictionary": False, "index": False, "write_page_checksum": True}
                table.reset_index(drop=True).to_parquet(unfinished / f"{name}.parquet", **options)
            unfinished.rename(self.folder / well)

    def join(self, name: str, empty: pd.DataFrame) -> pd.DataFrame:
        """The tables of that name of all wells; `empty` gives the columns when no well has a row."""
        tables = [_read(self.folder / well / f"{name}.parquet") for well in self.wells]
        tables = [table for table in tables if len(table)]
        return pd.concat(tables, ignore_index=True) if tables else empty


@contextmanager
def part(table: str | Path, key: str, wells: list[str]) -> Iterator[Part]:
    """The wells of a job that makes `table`, with those an earlier, killed job of the same key has finished.

    Parameters
    ----------
    table : str or Path
        The rule's table; the commits stand beside it in `.{name}/{key}/{well}` until the block ends well.
    key : str
        Of section, code and inputs: commits of another key are not taken.
    wells : list of str

    Yields
    ------
    Part
    """
    table = Path(table)
    folder = table.parent / f".{table.stem}"
    for left in [*table.parent.glob(f".{folder.name}.*.tmp"), *folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")]:
        shutil.rmtree(left)
    for other in folder.iterdir() if folder.is_dir() else ():
        if other.name != key:
            _drop(other)
    with writing(folder / key):
        (folder / key).mkdir(parents=True, exist_ok=True)
    for commit in (folder / key).iterdir():
        if not _is_whole(commit):
            LOG.warning("%s is damaged; the well is done again", commit)
            _drop(commit)
    yield Part(folder / key, wells)
    _flush(table.parent)
    _drop(folder)


def _drop(folder: Path) -> None:
    """Delete commits, all or none: one that a kill had left with half its tables would count as whole."""
    doomed = temporary(folder)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _is_whole(commit: Path) -> bool:
    """Whether a commit's tables are as they were written."""
    # They are not flushed: a crash of the computer may empty files that a kill leaves alone.
    try:
        return bool([_read(table) for table in commit.iterdir()])
    except (pa.ArrowException, OSError):
        return False


def _read(table: Path) -> pd.DataFrame:
    return pq.read_table(table, page_checksum_verification=True).to_pandas()


def _flush(folder: Path) -> None:
    """Have the renames in a folder on disk before the commits go."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
