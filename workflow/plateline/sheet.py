"""Plates of the sheet that start from somebody else's tables: which they are, and which files are theirs.

Standard library only: every cluster job imports this before anything else.
"""

import glob
import re
from pathlib import Path

# The layout of a plate whose source is a table of profiles: it has no images here and enters at `profile`.
IMPORTED = "profiles"
ENDINGS = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".npz", ".h5ad")


def is_imported(plate: dict[str, str]) -> bool:
    """Whether a plate starts from a table of profiles and has no images here."""
    return plate.get("layout") == IMPORTED


def tables_of(plate: dict[str, str], pattern: str) -> list[str]:
    """Files that a plate of the layout `profiles` is read from, sorted.

    Parameters
    ----------
    plate : dict
        Line of the sheet; its source is one file or a folder.
    pattern : str
        Which files inside a folder, as a glob with `{plate}`. Empty: those whose name, up to the first dot, is the
        plate's; else those with the plate's name as a word in their path; else all tables.
    """
    source = Path(plate["source"])
    if not source.is_dir():
        return [str(source)]
    if pattern:
        return sorted(map(str, source.glob(pattern.replace("{plate}", glob.escape(plate["plate"])))))
    found = sorted(path for path in source.rglob("*") if path.name.lower().endswith(ENDINGS) and path.is_file())
    word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(plate['plate'])}(?![A-Za-z0-9])")
    named = [path for path in found if path.name.partition(".")[0] == plate["plate"]]
    named = named or [path for path in found if word.search(path.relative_to(source).as_posix())]
    return list(map(str, named or found))
