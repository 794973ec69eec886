"""What can go: files and Zarr arrays that no target names, and all that was made of one plate.

What the targets are, Snakemake itself is asked. Only folders of `results` that are Plateline's are looked into.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from plateline import config as settings
from plateline import store
from plateline.cli.campaign import plate_source
from plateline.cli.lock import refuse_while_locked
from plateline.errors import ConfigError

RESULTS = Path("results")
# Only a rule writes these; any other file is a companion of the tables it stands beside.
TABLES = {".parquet", ".h5ad"}


def delete_orphans(*, dry_run: bool) -> str:
    """Delete what no target of the campaign in the working directory names; what was deleted, as text.

    Raises
    ------
    CampaignBusy
        If a run may be on.
    ConfigError
        If Snakemake cannot say what the targets are.
    """
    if not dry_run:
        refuse_while_locked("orphans are not deleted")
    return _delete(find_orphans(_targets()), dry_run=dry_run) or "no orphans: every file under results/ has its target"


def find_orphans(targets: set[Path]) -> list[Path]:
    """Files and folders under `results` that belong to no target.

    Parameters
    ----------
    targets : set of Path
        Outputs of all jobs of the campaign, done or not.

    Returns
    -------
    list of Path
        Sorted. Tables that are no target; files beside which no target stands; what a killed job has left, but for the
        wells of a part that can go on; illuminations of channels that their table lacks; plates and previews of plates
        that are not in use; and of the others' Zarr the fields, levels and labels that nothing names.
    """
    plates = {path.parts[2] for path in targets if path.match("results/ingest/*/images.parquet")}
    found = [path for stage in settings.STAGES for path in _in_stage(RESULTS / stage, targets)]
    found += [path for path in RESULTS.glob("preview/*") if path.name.partition(".")[0] not in plates]
    for path in RESULTS.glob("images/*"):
        index = RESULTS / "ingest" / path.stem / "images.parquet"
        if path.suffix != ".zarr" or path.stem not in plates:
            found.append(path)
        elif index.is_file():
            places = store.read_table(index, ["Metadata_Well", "Metadata_Site"])
            found += store.stray_arrays(path, set(places.itertuples(index=False, name=None)))
    return sorted(found)


def _in_stage(folder: Path, targets: set[Path]) -> Iterator[Path]:
    """Orphans in a stage's folder and in those below."""
    beside = any(target.parent == folder for target in targets)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.endswith((".tmp", ".old")):
            yield path
        elif re.fullmatch(r"\.part-\d+", path.name):
            if path.with_name(f"{path.name[1:]}.parquet") not in targets:
                yield path
        elif path.is_dir() and not path.name.startswith("."):
            yield from _in_stage(path, targets)
        elif path not in targets and (path.suffix in TABLES or not beside or _is_of_lost_channel(path)):
            yield path


def _is_of_lost_channel(path: Path) -> bool:
    """Whether a file is the illumination or dark level of a channel that the table beside it does not name."""
    table = path.with_name("flatfield.parquet")
    if path.suffix != ".npy" or not table.is_file():
        return False
    channels = store.read_table(table, ["Metadata_Channel"])["Metadata_Channel"]
    return path.name not in {f"{path.parent.name}_{kind}{name}.npy" for kind in ("Illum", "Dark") for name in channels}


def _targets() -> set[Path]:
    """Outputs of all jobs of the campaign in the working directory, as Snakemake lists them."""
    done = subprocess.run([sys.executable, "-m", "snakemake", "--summary"], capture_output=True, text=True)
    if done.returncode:
        msg = f"snakemake --summary cannot name the targets of {Path.cwd()}: {(done.stderr or done.stdout).strip()}"
        raise ConfigError(msg)
    return {Path(line.partition("\t")[0]) for line in done.stdout.splitlines()[1:]}


def clean(plate: str, *, dry_run: bool) -> str:
    """Delete all that was made of one plate, so that it starts anew; its logs stay. What was deleted, as text.

    Raises
    ------
    CampaignBusy
        If a run may be on.
    ConfigError
        If nothing was made of the plate, or its pixels could not be made again because its source is gone.
    """
    if not dry_run:
        refuse_while_locked(f"plate {plate} is not cleaned")
    made = made_of(plate)
    if not made:
        others = sorted({path.name for path in RESULTS.glob("ingest/*")})
        msg = f"nothing under results/ was made of plate {plate!r}; there are results of {', '.join(others) or 'none'}"
        raise ConfigError(msg)
    source = plate_source(plate)
    if source and not Path(source).exists():
        msg = (
            f"plate {plate}: its source {source} is gone, so its pixels could not be made again; to give them "
            "up, first take its line out of the plate sheet"
        )
        raise ConfigError(msg)
    return _delete(made, dry_run=dry_run)


def made_of(plate: str) -> list[Path]:
    """Files and folders under `results` that are of one plate alone; its pixels come last."""
    stages = [stage for stage, grains in settings.STAGES.items() if {"plate", "part"} & set(grains)]
    found = [path for stage in [*stages, "preview", "images"] for path in sorted(RESULTS.glob(f"{stage}/*"))]
    # The page of the screen stands where the folders of plates are.
    return [path for path in found if _plate_of(path) == plate and path != RESULTS / "report" / "index.html"]


def _plate_of(path: Path) -> str:
    """Plate that a name begins with: it holds no dot."""
    return path.name.lstrip(".").partition(".")[0]


def _delete(paths: Iterable[Path], *, dry_run: bool) -> str:
    """Delete files and folders, and folders that are empty then; a line for each."""
    for path in () if dry_run else paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for folder in path.parents:
            if folder == RESULTS or any(folder.iterdir()):
                break
            folder.rmdir()
    return "\n".join(f"{'would delete' if dry_run else 'deleted'} {path}" for path in paths)
