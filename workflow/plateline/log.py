"""The log file of a job, its format, and its one summary line."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from plateline import run

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def job(snakemake) -> Iterator[dict[str, int]]:
    """Log of one job: opened first, its last line says what went in, what came out and how long it took.

    Parameters
    ----------
    snakemake : object
        What Snakemake puts into a script: `log`, `rule`, `wildcards`.

    Yields
    ------
    dict of str to int
        Counts for the summary line, filled by the script: `fields`, `cells`, ...

    Raises
    ------
    EditedDuringRun
        If the config, the sheet or the code changed since the run began.
    """
    name = " ".join([snakemake.rule, *map(str, snakemake.wildcards)])
    screen = logging.StreamHandler(sys.stderr)
    screen.addFilter(lambda record: record.name == name or record.levelno >= logging.WARNING)
    logging.basicConfig(
        level=logging.INFO,
        format=FORMAT,
        handlers=[logging.FileHandler(snakemake.log[0], mode="w"), screen],
        force=True,
    )
    for library in ("matplotlib", "fontTools", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logger = logging.getLogger(name)
    counts: dict[str, int] = {}
    start = time.monotonic()
    try:
        run.check_run()
        yield counts
    except Exception as error:
        logger.error("%s: %s", type(error).__name__, error)
        raise
    logger.info("%s; %.1f s", ", ".join(f"{n:,} {what}" for what, n in counts.items()), time.monotonic() - start)


def progress(done: int, total: int, text: str) -> None:
    """A line with a bar in the log of a long job, and on its screen."""
    bar = "#" * (20 * done // total)
    logging.getLogger(__name__).info("[%-20s] %d of %d: %s", bar, done, total, text)
