"""Dask for one job: a function over wells on the job's worker processes."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from plateline.compute.heap import VARIABLES, keep_memory
from plateline.compute.memory import within_memory

LOG = logging.getLogger(__name__)


def map_wells(
    function: Callable, wells: Iterable[str], *, workers: int, devices: Sequence[str] = ()
) -> Iterator[tuple[str, object]]:
    """Results of a function over wells, each as soon as it is there.

    Parameters
    ----------
    function : callable
        Called with a well name; must survive pickling when there are several workers.
    wells : iterable of str
        Well names; the order of the results is that of completion.
    workers : int
        Single-threaded worker processes of one Dask cluster; 1 runs in this process, without a cluster.
    devices : sequence of str
        GPUs of this job, as `devices` yields them; at least one worker each.

    Yields
    ------
    tuple of str and object
        Well name and what the function returned. An exception of the function is raised here. Where a GPU has too
        little memory, the function is called again with smaller batches, and the log says so.

    Notes
    -----
    A worker sees one device, or none. Several workers of one device take turns at it: while one decodes or writes its
    field on its core, the next one's is on the device, and a third reads. These are processes and not threads because
    compiled decoders hold the interpreter's lock; a field at a time is enough for a device, so that nothing is gained
    by batches over fields, which one process alone could make.
    """
    wells = list(wells)
    workers = min(max(workers, len(devices)), len(wells))
    careful = partial(within_memory, function)
    results = _in_process(careful, wells) if workers <= 1 else _on_cluster(careful, wells, workers, devices)
    for number, (well, (result, notes)) in enumerate(results, start=1):
        for note in notes:
            LOG.warning("well %s: %s", well, note)
        LOG.info("well %s done, %d of %d", well, number, len(wells))
        yield well, result


def _in_process(function: Callable, wells: list[str]) -> Iterator[tuple[str, tuple]]:
    keep_memory()
    for well in wells:
        yield well, function(well)


def _on_cluster(
    function: Callable, wells: list[str], workers: int, devices: Sequence[str]
) -> Iterator[tuple[str, tuple]]:
    from distributed import Client, Nanny, Scheduler, SpecCluster, as_completed

    _quieten("distributed")
    with tempfile.TemporaryDirectory(prefix="plateline-") as scratch, _environment_of_workers(), _hidden_script():
        shared = {"nthreads": 1, "host": "127.0.0.1", "local_directory": scratch, "silence_logs": logging.WARNING}
        shared |= {"memory_limit": None}  # the scheduler's allocation is the limit
        spec = {
            number: {"cls": Nanny, "options": shared | {"env": {"CUDA_VISIBLE_DEVICES": device}}}
            for number, device in enumerate(share(devices, workers))
        }
        # Any free ports: two jobs on one host must not fight for one.
        local = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": local}
        with SpecCluster(workers=spec, scheduler=scheduler) as cluster, Client(cluster) as client:
            futures = client.map(function, wells, pure=False)
            names = {future.key: well for future, well in zip(futures, wells, strict=True)}
            for future in as_completed(futures):
                yield names[future.key], future.result()
                future.release()  # a result leaves memory once it is committed


def share(devices: Sequence[str], workers: int) -> list[str]:
    """Device of each worker: they are dealt round; an empty name, which hides all devices, where there is none."""
    return [devices[number % len(devices)] if devices else "" for number in range(workers)]


def _quieten(library: str) -> None:
    """Only warnings of a library that sets the levels of its own loggers."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == library:
            logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _environment_of_workers() -> Iterator[None]:
    """One thread per worker, and memory that it keeps: both are read from these variables when the process starts."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    wanted = VARIABLES | dict.fromkeys(threads, "1")
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _hidden_script() -> Iterator[None]:
    """A spawned worker would run Snakemake's copy of the script again; without a file name it cannot."""
    main = sys.modules["__main__"]
    file = main.__dict__.pop("__file__", None)
    try:
        yield
    finally:
        if file is not None:
            main.__file__ = file
