"""Leases of GPUs among the jobs of one host, of all users: a lock file per device.

The kernel holds the locks, and frees those of a process however it dies. Nothing is written into the files.
"""

import contextlib
import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger(__name__)

# On local disk, one folder for all users: not the folder for temporary files, which may be each job's own.
FOLDER = "/tmp/plateline-gpu"
_PAUSE_S, _SAY_EVERY_S = 0.2, 60.0


@contextmanager
def lease(pool: list[str], count: int) -> Iterator[list[str]]:
    """So many devices of a pool, which no other lease on this host holds meanwhile.

    Parameters
    ----------
    pool : list of str
        Names of devices, at least `count`.
    count : int
        How many; all at once or none, so that two leases never wait for each other's half.

    Yields
    ------
    list of str
        The devices, in the order of the pool.

    Notes
    -----
    Waits as long as it takes, with a line in the log at first and then every minute. Locks lie in the folder that
    ``PLATELINE_GPU_LOCKS`` names, or in `FOLDER`.
    """
    folder = _folder()
    start, said = time.monotonic(), -_SAY_EVERY_S
    while not (held := _try(folder, pool, count)):
        waited = time.monotonic() - start
        if waited - said >= _SAY_EVERY_S:
            LOG.info("waiting for %d of the GPUs %s: others hold them; %.0f s", count, ", ".join(pool), waited)
            said = waited
        time.sleep(_PAUSE_S)
    LOG.info("leased GPU %s after %.1f s", ", ".join(held), time.monotonic() - start)
    try:
        yield list(held)
    finally:
        _release(held)


def _folder() -> Path:
    """The folder of the locks, made where it is missing, open to every user of this host."""
    folder = Path(os.environ.get("PLATELINE_GPU_LOCKS", FOLDER))
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # another user was faster
            folder.chmod(0o1777)
    return folder


def _try(folder: Path, pool: list[str], count: int) -> dict[str, int]:
    """Locks of the first free devices by name, if there are enough; else of none."""
    gate = _open(folder / "gate")
    held: dict[str, int] = {}
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)  # one at a time, or two could each take half of what both want
        for device in pool:
            lock = _open(folder / ("gpu-" + re.sub(r"[^\w-]", "_", device)))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            held[device] = lock
            if len(held) == count:
                return held
    finally:
        os.close(gate)
    _release(held)
    return {}


def _open(path: Path) -> int:
    """A file to lock. One that is there is opened without `O_CREAT`, which hardened hosts refuse for another user's."""
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        except FileExistsError:
            continue


def _release(held: dict[str, int]) -> None:
    for lock in held.values():
        os.close(lock)
