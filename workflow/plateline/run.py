"""The guard of a run: what it rests on, what changed since, where it cannot write, and what an earlier one left behind.

Standard library only: every job of a run asks it before it opens anything.
"""

import base64
import errno
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from plateline import config as settings
from plateline import digests
from plateline.errors import EditedDuringRun, StorageError

RUN = Path("results/run.json")
RECORDS = Path(".snakemake")

# What the system says of a place that cannot be written -> what a person can do about it.
_FULL = "free space there"
_CLOSED = "make it writable (mount options, chmod, chown) or move the campaign"
_REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL)
_REMEDIES |= dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _CLOSED)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """While a file or folder is written: a full disk or a closed one is told with its place and the remedy.

    Raises
    ------
    StorageError
        In place of the system's error, which on a full disk names no file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        msg = (
            f"{path} cannot be written: {os.strerror(error.errno)}; {_REMEDIES[error.errno]}, then start snakemake "
            "again: what is half written does not count, what is finished is not redone"
        )
        raise StorageError(msg) from error


def begin_run(files: Iterable[str | Path], config: dict) -> None:
    """Write what this run rests on to `results/run.json`: digests of its files and config, versions of its tools.

    Raises
    ------
    StorageError
        If `results` cannot be written.
    """
    files = [*files, *settings.method_files(config)]
    files += sorted(path for kind in ("*.py", "*.smk") for path in digests.PACKAGE.parent.rglob(kind))
    tools = ("plateline", "snakemake", "numpy", "scipy", "scikit-image", "scikit-learn", "pandas", "pyarrow", "zarr")
    run = {
        "files": {str(file): digests.digest_file(file) for file in files},
        "config": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32],
        "versions": {"python": sys.version.split()[0]} | {tool: metadata.version(tool) for tool in tools},
    }
    with writing(RUN.parent):
        RUN.parent.mkdir(exist_ok=True)
        RUN.write_text(json.dumps(run, indent=1))


def read_run() -> dict:
    """What `results/run.json` says of the run; empty when a job is run by hand, without one."""
    return json.loads(RUN.read_text()) if RUN.is_file() else {}


def check_run() -> None:
    """Refuse to go on when a file of the run was edited after it began.

    Raises
    ------
    EditedDuringRun
        Naming the files that changed.
    """
    recorded = read_run().get("files", {})
    changed = [path for path, digest in recorded.items() if digests.digest_file(path) != digest]
    if changed:
        msg = (
            f"edited while the run was on: {', '.join(changed)}; start snakemake again, and it redoes what that changes"
        )
        raise EditedDuringRun(msg)


def unrecorded(root: str | Path = "results", records: str | Path = RECORDS) -> list[Path]:
    """Tables and pages that the latest run made without Snakemake taking note: it would misjudge changes to them.

    A job on a cluster that outlives its killed Snakemake leaves such: it takes its mark of being incomplete away, but
    the note of what made it is written by the run, which is gone; there is none, or one of an earlier config.

    Parameters
    ----------
    root : str or Path
        Folder of results.
    records : str or Path
        Snakemake's folder.

    Returns
    -------
    list of Path
        Sorted; without files that are marked as incomplete, which are redone, and what is older than the run.
    """
    patterns = [f"{stage}/**/*.parquet" for stage in settings.STAGES]
    patterns += ["ledger.parquet", "verdict.json", "report/**/index.html"]
    began = Path(root, RUN.name)
    found = {path for pattern in patterns if began.is_file() for path in Path(root).glob(pattern)}
    found = {path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)}
    notes, incomplete = (_notes(Path(records, kind)) for kind in ("metadata", "incomplete"))
    names = {path: base64.urlsafe_b64encode(str(path).encode()).decode() for path in found}
    new = {path: name for path, name in names.items() if path.stat().st_mtime >= began.stat().st_mtime}
    return sorted(path for path, name in new.items() if name not in incomplete and _is_newer(path, notes.get(name)))


def _notes(folder: Path) -> dict[str, Path]:
    """Snakemake's notes by name: that of a file in base 64, which a long one spreads over folders."""
    found: dict[str, Path] = {}
    for path, _, names in os.walk(folder):
        start = "".join(part.removeprefix("@") for part in Path(path).relative_to(folder).parts)
        found |= {start + name: Path(path, name) for name in names}
    return found


def _is_newer(path: Path, note: Path | None) -> bool:
    """Whether a file was written after the note of it, or has none."""
    if note is None:
        return True
    written = path.stat().st_mtime
    # The clocks of a cluster differ: the note itself holds the time of the file that it is of.
    return written > note.stat().st_mtime and written > json.loads(note.read_text()).get("endtime", 0.0)


def source_state(folder: str | Path) -> dict[str, float]:
    """Number of files under a source folder, and the newest time of change among them, seconds since 1970."""
    times = [path.stat().st_mtime for path in Path(folder).rglob("*") if path.is_file()]
    return {"files": len(times), "newest": max(times, default=0.0)}


def grown(plate: dict[str, str], root: str | Path = "results") -> str:
    """Why a plate's source is not what was indexed; empty when it is, or is gone, or was never indexed."""
    recorded = Path(root, "ingest", plate["plate"], "source.json")
    if not recorded.is_file() or not Path(plate["source"]).is_dir():
        return ""
    before, now = json.loads(recorded.read_text()), source_state(plate["source"])
    if before == now:
        return ""
    index = f"results/ingest/{plate['plate']}/images.parquet"
    found = f"{plate['source']} has {now['files']} files, {before['files']} when it was indexed, or newer ones"
    return f"plate {plate['plate']}: {found}; to take them in, run snakemake -R {index}"


def orphans(parts: dict[str, int], root: str | Path = "results") -> list[Path]:
    """Tables and plates under `results` that no rule of this config makes; nothing is deleted.

    Parameters
    ----------
    parts : dict of str to int
        Plates in use and their number of parts.
    root : str or Path
        Folder of results.

    Returns
    -------
    list of Path
        Sorted.
    """
    stages = [stage for stage, grains in settings.STAGES.items() if {"plate", "part"} & set(grains)]
    found = [path for stage in stages for path in Path(root, stage).glob("**/*.parquet")]
    found += [*Path(root, "images").glob("*.zarr"), *Path(root, "report").glob("*/index.html")]
    return sorted(path for path in found if _is_orphan(path.relative_to(root), parts))


def _is_orphan(path: Path, parts: dict[str, int]) -> bool:
    plate = re.sub(r"((\.ledger|\.positions|\.bscores)?\.parquet|\.zarr)$", "", path.parts[1])
    part = re.match(r"part-(\d+)\.", path.name)
    hidden = any(name.startswith(".") for name in path.parts)
    return not hidden and (plate not in parts or bool(part and int(part[1]) > parts[plate]))
