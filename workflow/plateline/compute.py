"""Dask for one job: a function over wells on the job's cores."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)


def map_wells(function: Callable, wells: Iterable[str], *, workers: int) -> Iterator[tuple[str, object]]:
    """Results of a function over wells, each as soon as it is there.

    Parameters
    ----------
    function : callable
        Called with a well name; must survive pickling when `workers` > 1.
    wells : iterable of str
        Well names; the order of the results is that of completion.
    workers : int
        Single-threaded worker processes of one Dask cluster; 1 runs in this process, without a cluster.

    Yields
    ------
    tuple of str and object
        Well name and what the function returned. An exception of the function is raised here.
    """
    wells = list(wells)
    workers = min(workers, len(wells))
    results = _in_process(function, wells) if workers <= 1 else _on_cluster(function, wells, workers)
    for number, (well, result) in enumerate(results, start=1):
        LOG.info("well %s done, %d of %d", well, number, len(wells))
        yield well, result


def _in_process(function: Callable, wells: list[str]) -> Iterator[tuple[str, object]]:
    for well in wells:
        yield well, function(well)


def _on_cluster(function: Callable, wells: list[str], workers: int) -> Iterator[tuple[str, object]]:
    from distributed import Client, LocalCluster, as_completed

    _quieten("distributed")
    with (
        _single_threaded(),
        _hidden_script(),
        tempfile.TemporaryDirectory(prefix="plateline-") as scratch,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port: two jobs on one host must not fight for one
            local_directory=scratch,
            memory_limit=None,  # the scheduler's allocation is the limit
        ) as cluster,
        Client(cluster) as client,
    ):
        futures = client.map(function, wells, pure=False)
        names = {future.key: well for future, well in zip(futures, wells, strict=True)}
        for future in as_completed(futures):
            yield names[future.key], future.result()
            future.release()  # a result leaves memory once it is committed


def _quieten(library: str) -> None:
    """Only warnings of a library that sets the levels of its own loggers."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == library:
            logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """One thread per worker: numerical libraries read these variables when the process starts."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
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
