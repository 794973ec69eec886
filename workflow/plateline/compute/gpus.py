"""Which GPUs a job may use: those the scheduler has pinned, or those it leases; without a request none.

A device is always named as ``CUDA_VISIBLE_DEVICES`` names it. Slurm's own variables count the devices of the host,
which is another number where the job sees only its own: they are never read.
"""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plateline.compute import leases
from plateline.errors import ConfigError

LOG = logging.getLogger(__name__)

VISIBLE, POOL = "CUDA_VISIBLE_DEVICES", "PLATELINE_GPU_POOL"


@contextmanager
def devices(wanted: int) -> Iterator[list[str]]:
    """GPUs of this job, held for as long as it runs; this process and its workers see no other.

    Parameters
    ----------
    wanted : int
        Number of GPUs that the job asks for, the resource `gpu` of its rule. 0 hides all of them.

    Yields
    ------
    list of str
        Names of the devices, for ``CUDA_VISIBLE_DEVICES``; none where none was asked for.

    Raises
    ------
    ConfigError
        If this host has fewer devices to lend than are asked for.

    Notes
    -----
    To be entered before torch looks for devices. Waits, with a line in the log, until enough devices are free. Within
    Slurm, which has pinned what it gave, nothing is leased.
    """
    given = _pinned() if wanted else []
    if wanted and not given:
        pool = _pool()
        if len(pool) < wanted:
            msg = (
                f"the job asks for {wanted} GPUs, but this host has {len(pool)} to lend ({', '.join(pool) or 'none'}); "
                f"expected at least {wanted}; lower `gpu` in the profile, or name devices in {POOL}"
            )
            raise ConfigError(msg)
        with leases.lease(pool, wanted) as given, _seen(given):
            yield given
        return
    LOG.info("GPUs: %s", ", ".join(given) or "none")
    with _seen(given):
        yield given


def _pinned() -> list[str]:
    """Devices that the scheduler has given to this job; none where there is no scheduler, or it pins none."""
    return _names(os.environ.get(VISIBLE, "")) if "SLURM_JOB_ID" in os.environ else []


def _pool() -> list[str]:
    """Devices of this host that its jobs share."""
    for variable in (POOL, VISIBLE):
        if variable in os.environ:
            return _names(os.environ[variable])
    return _asked_driver() or sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))


def _names(text: str) -> list[str]:
    """Devices in a list such as ``0,1``; like CUDA, none from the first on that is no device, such as ``-1``."""
    found = [name.strip() for name in text.split(",")]
    ends = [number for number, name in enumerate(found) if name in ("", "-1", "NoDevFiles")]
    return list(dict.fromkeys(found[: min(ends, default=len(found))]))


def _asked_driver() -> list[str]:
    """Devices that the driver's own tool lists; none where it is not installed or fails."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    query = [tool, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split() if done.returncode == 0 else []


@contextmanager
def _seen(given: list[str]) -> Iterator[None]:
    """Only these devices, numbered as the driver's tool numbers them, are there for CUDA in this process."""
    before = {name: os.environ.get(name) for name in (VISIBLE, "CUDA_DEVICE_ORDER")}
    os.environ[VISIBLE] = ",".join(given)
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
