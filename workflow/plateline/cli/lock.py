"""The lock of a campaign: what a run holds while it is on, and what a killed one leaves behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from plateline import run
from plateline.errors import CampaignBusy, EditedDuringRun

LOCKS = Path(".snakemake/locks")


def refuse_while_locked(what: str) -> None:
    """Refuse what a run must not be disturbed by.

    Raises
    ------
    CampaignBusy
        If the campaign in the working directory is locked.
    """
    if _held():
        msg = f"{what}: this campaign is locked: a run is on, or was killed; wait for it, or run plateline unlock"
        raise CampaignBusy(msg)


def unlock(*, dry_run: bool) -> str:
    """Take off the lock that a killed run has left on the campaign in the working directory.

    Jobs on a cluster go on without the run that submitted them. What they have finished since is taken over; where the
    config, the sheet or the code were edited since, it is deleted, and so redone.

    Parameters
    ----------
    dry_run : bool
        Only say what would be done.

    Returns
    -------
    str
        What was done, for a person.

    Raises
    ------
    CampaignBusy
        If jobs that started here are in the Slurm queue, if Snakemake is at work here on this computer, if Slurm cannot
        say, or if Snakemake does not do as it is told.
    """
    left = run.unrecorded()
    if not _held() and not left:
        return "this campaign is not locked; nothing to do"
    if jobs := _queued():
        msg = f"jobs of this campaign are in the Slurm queue: {', '.join(jobs)}; wait for them, or scancel them first"
        raise CampaignBusy(msg)
    if processes := _running():
        msg = f"snakemake is at work in this campaign, process {', '.join(processes)}; wait for it, or end it first"
        raise CampaignBusy(msg)
    if dry_run:
        files = "".join(f"\nwould take over, or delete if the config was edited: {path}" for path in left)
        return f"would take off the lock: no job of this campaign is queued or running{files}"
    _snakemake("--unlock")
    said = _take_over(left) if left else ""
    return f"{said}the lock is off; start snakemake again, and it goes on where it stopped"


def _take_over(left: list[Path]) -> str:
    """Have Snakemake take note of tables as made by this config, or delete them if they were made by another."""
    try:
        run.check_run()
    except EditedDuringRun:
        for path in left:
            path.unlink()
        return f"deleted {len(left)} files that jobs of the killed run made before the config or the code was edited\n"
    _snakemake("--cores", "1", "--touch", "--force", *map(str, left))
    return f"took over {len(left)} files that jobs finished after their run was killed\n"


def _snakemake(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "snakemake", *arguments], capture_output=True, text=True)
    if done.returncode or _held():
        msg = f"snakemake {' '.join(arguments[:4])} failed: {(done.stderr or done.stdout).strip()}"
        raise CampaignBusy(msg)


def _held() -> bool:
    return LOCKS.is_dir() and any(LOCKS.iterdir())


def _queued() -> list[str]:
    """Jobs in the Slurm queue that were submitted in this folder, as `id (state)`; none where there is no Slurm."""
    if not shutil.which("squeue"):
        return []
    done = subprocess.run(["squeue", "--noheader", "--format=%i|%T|%Z"], capture_output=True, text=True)
    if done.returncode:
        msg = f"squeue cannot say whether jobs of this campaign are queued: {done.stderr.strip()}; try again later"
        raise CampaignBusy(msg)
    jobs = [line.strip().split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
    # The shell that asks may itself be a job that was started here.
    own = os.environ.get("SLURM_JOB_ID")
    return [f"{job} ({state})" for job, state, folder in jobs if job != own and _is_here(Path(folder))]


def _running() -> list[str]:
    """Processes on this computer that are Snakemake, or a job of it, in this folder; none where there is no `/proc`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")[:3]
            here = _is_here((process / "cwd").readlink())
        except OSError:  # it has ended, or is another person's
            continue
        # A job outlives a killed Snakemake, as the script that it runs.
        if here and any(word.endswith(b"snakemake") or b"/.snakemake/scripts/" in word for word in words):
            found.append(process.name)
    return sorted(found, key=int)


def _is_here(folder: Path) -> bool:
    return folder.resolve() == Path.cwd().resolve()
