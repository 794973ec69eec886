"""Parquet tables: sorted by identity, compressed, and carrying what made them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from plateline.errors import StaleError
from plateline.identity import CELL, PREFIX, features_of
from plateline.store.files import write_whole
from plateline.store.keys import chain, checksum

PROVENANCE = b"plateline"


def provenance(params, inputs: Iterable[str]) -> dict[str, str]:
    """What a table's metadata says of its making.

    Parameters
    ----------
    params : object
        Params of the rule: `section`, `code` and, for parts, `share`.
    inputs : iterable of str
        Paths of the rule's inputs.

    Returns
    -------
    dict of str to str
        `section` (JSON), `code`, `share` (JSON), `version`, and `key`, chained over the inputs.
    """
    section = dict(params.section)
    share = list(params.get("share", ()))
    return {
        "section": json.dumps(section, sort_keys=True),
        "code": params.code,
        "share": json.dumps(share),
        "version": version("plateline"),
        "key": chain(section, params.code, json.dumps(share), *(digest_of(path) for path in inputs)),
    }


def digest_of(path: str | Path) -> str:
    """sha256 of a file's bytes, 32 hexadecimal digits: a table's bytes hold its own key, so this chains."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def save_table(frame: pd.DataFrame, path: str | Path, made: dict[str, str]) -> None:
    """Save a table whole, rows sorted by their identity columns.

    Parameters
    ----------
    frame : DataFrame
    path : str or Path
        Replaced at once, or not at all.
    made : dict of str to str
        From `provenance`.
    """
    identity = [column for column in CELL if column in frame]
    if identity:
        frame = frame.sort_values(identity, kind="stable")
    table = pa.Table.from_pandas(frame.reset_index(drop=True), preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), PROVENANCE: json.dumps(made).encode()})
    # A dictionary makes float columns larger and five times slower to write.
    text = [field.name for field in table.schema if not pa.types.is_floating(field.type)]
    options = {"compression": "zstd", "use_dictionary": text, "write_page_checksum": True}
    write_whole(path, lambda file: pq.write_table(table, file, **options))


def read_table(path: str | Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table, or some of its columns; raises `StaleError` if it is damaged."""
    with _whole(path):
        return pq.read_table(path, columns=columns, page_checksum_verification=True).to_pandas()


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    """While a table is read: damage is told with the file to make again."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        msg = f"{path} is damaged ({error}); make it again: snakemake -R {path}"
        raise StaleError(msg) from error


def read_tables(paths: Iterable[str | Path], columns: list[str] | None = None) -> pd.DataFrame:
    """Tables of several parts or plates, one below the other; columns that one lacks are missing there."""
    frames = [read_table(path, columns) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def read_metadata(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Tables of several plates without their features, one below the other; these are most of a large screen."""
    named = {path: [name for name in columns_of(path) if name.startswith(PREFIX)] for path in paths}
    return pd.concat([read_table(path, names) for path, names in named.items()], ignore_index=True)


def columns_of(path: str | Path) -> list[str]:
    """Names of a table's columns."""
    with _whole(path):
        return list(pq.read_schema(path).names)


def read_rows(paths: Iterable[str | Path], columns: list[str], rows: npt.NDArray[np.bool_]) -> pd.DataFrame:
    """Some columns of the chosen rows of several tables, one below the other; a table at a time is in memory.

    Parameters
    ----------
    paths : iterable of str or Path
    columns : list of str
    rows : (N,) bool
        Of all rows of all tables, which to keep.
    """
    parts, start = [], 0
    for path in paths:
        with _whole(path):
            table = pq.read_table(path, columns=columns, page_checksum_verification=True)
        parts.append(table.filter(rows[start : start + table.num_rows]))
        start += table.num_rows
    return pa.concat_tables(parts, promote_options="permissive").to_pandas()


def read_flatfield(table: str | Path, plate: str) -> dict[str, object]:
    """Illumination and dark level of a plate, as its table vouches for them.

    Returns
    -------
    dict
        `images` (illum and dark, each (C, Y, X) float32), `channels` (names in the order of C) and `key`, of the pixels
        alone: how many parts they were estimated from does not change it.

    Raises
    ------
    StaleError
        If an array beside the table is missing or not the one that the table names.
    """
    rows = read_table(table)
    pairs: list[list[npt.NDArray]] = []
    for channel, checked in zip(rows["Metadata_Channel"], rows["checksum"], strict=True):
        names = [Path(table).parent / f"{plate}_{kind}{channel}.npy" for kind in ("Illum", "Dark")]
        pairs.append([])
        for name in names:
            with suppress(ValueError, OSError, EOFError):  # lost or damaged: the checksum tells
                pairs[-1].append(np.load(name, allow_pickle=False))
        if checksum(*pairs[-1]) != checked:
            msg = f"{names[0]} is not what {table} speaks of; rerun rule flatfield_plate (-R flatfield_plate)"
            raise StaleError(msg)
    images = [np.stack(kind) for kind in zip(*pairs, strict=True)] or [np.zeros((0, 0, 0), np.float32)] * 2
    return {"images": images, "channels": list(rows["Metadata_Channel"]), "key": "".join(rows["checksum"])}


def save_anndata(profiles: pd.DataFrame, path: str | Path) -> None:
    """Save profiles as H5AD: features in `X` (float32) with their parts in `var`, metadata as `obs`."""
    import anndata

    features = features_of(list(profiles.columns))
    obs = profiles.drop(columns=features)
    text = obs.select_dtypes(exclude="number").columns
    obs[text] = obs[text].astype(str).astype("category")
    obs.index = pd.Index(obs["Metadata_Plate"].astype(str) + "_" + obs["Metadata_Well"].astype(str), name="well")
    parts = [[*name.split("_"), "", ""][:3] for name in features]
    var = pd.DataFrame(
        parts, index=pd.Index(features, dtype=str), columns=["compartment", "group", "feature"], dtype=str
    ).astype("category")
    table = anndata.AnnData(profiles[features].to_numpy(np.float32), obs=obs, var=var)
    write_whole(path, lambda file: table.write_h5ad(file))
