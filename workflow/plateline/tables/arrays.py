"""Arrays of other programs as rows: AnnData (`.h5ad`) and DeepProfiler (`.npz`). Pickled objects are refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import anndata
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plateline.errors import SourceError

# Rows that are read at once.
BLOCK_ROWS = 65_536
_SITE = re.compile(r"(?:(?P<plate>.+)[_/])?(?P<well>[A-Za-z]{1,2}\d{1,2})[_/-](?P<site>[A-Za-z]*\d+)")


def read_anndata(path: str) -> Iterator[pa.RecordBatch]:
    """Blocks of rows of an AnnData table: `obs` beside `X`, whose columns have the names of `var`.

    Raises
    ------
    SourceError
        If the file is no AnnData.
    """
    try:
        table = anndata.read_h5ad(path, backed="r")
    except (OSError, KeyError, ValueError) as error:
        msg = f"{path} cannot be read as AnnData ({error}); expected an .h5ad file"
        raise SourceError(msg) from error
    obs = table.obs.reset_index(names="Metadata_obs_name")
    text = obs.select_dtypes(exclude="number").columns
    obs[text] = obs[text].astype(object).astype(str)
    for start in range(0, max(table.n_obs, 1), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        values = table.X[rows]
        values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        block = pa.Table.from_pandas(obs.iloc[rows], preserve_index=False)
        for name, column in zip(table.var_names, np.asarray(values).T, strict=True):
            block = block.append_column(str(name), pa.array(column))
        yield from block.to_batches()


def read_deepprofiler(path: str, root: str) -> pa.RecordBatch:
    """Features of the cells of one site, from the array `features` (N, D) of a file `{plate}/{well}/{site}.npz`.

    Parameters
    ----------
    path : str
        Its name, or its folders, tell the well and the site: also `{plate}_{well}_{site}.npz` and `{well}_{site}.npz`.
    root : str
        Folder above which no name is looked for.

    Returns
    -------
    pyarrow.RecordBatch
        `Metadata_Plate` (where the name has it), `Metadata_Well`, `Metadata_Site`, `Metadata_ObjectNumber` from 1, and
        `DeepProfiler_{d}` from 0.

    Raises
    ------
    SourceError
        If the name tells no well and site, or the file holds no such array, or holds it as a pickle only.
    """
    name = Path(path).relative_to(root).with_suffix("").as_posix() if Path(root).is_dir() else Path(path).stem
    match = _SITE.fullmatch(name)
    if match is None:
        msg = (
            f"{path}: its name tells no well and site; expected {{plate}}/{{well}}/{{site}}.npz, as DeepProfiler writes"
        )
        raise SourceError(msg)
    features = _features(path)
    number, width = features.shape
    columns: dict[str, object] = {"Metadata_Well": [match["well"]] * number}
    columns |= {"Metadata_Plate": [match["plate"].split("/")[-1]] * number} if match["plate"] else {}
    columns |= {"Metadata_Site": [float(re.sub(r"\D", "", match["site"]))] * number}
    columns |= {"Metadata_ObjectNumber": np.arange(1.0, number + 1)}
    columns |= {f"DeepProfiler_{d}": features[:, d] for d in range(width)}
    return pa.RecordBatch.from_pydict(columns)


def _features(path: str) -> npt.NDArray[np.float64]:
    """The features of one file (N, D) float64."""
    try:
        with np.load(path, allow_pickle=False) as file:
            features = np.asarray(file["features"], dtype=np.float64)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        msg = f"{path}: no array `features` can be read ({error}); expected numbers (cells, features), without pickles"
        raise SourceError(msg) from error
    if features.ndim != 2:
        msg = f"{path}: `features` has the shape {features.shape}; expected (cells, features)"
        raise SourceError(msg)
    return features
