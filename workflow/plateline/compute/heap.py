"""What a process does with memory that it has freed: it keeps it for its next arrays.

The C library of Linux (glibc) gives large blocks back to the system and gets every page of them again, zeroed, for the
next array. That costs a network a quarter of its time, and half where Dask sets `MALLOC_TRIM_THRESHOLD_`, as it does
for its workers. What a job holds at most is the same; between fields it holds more.
"""

import ctypes

# What glibc reads when a process starts: all blocks come from one heap, which grows by large steps and never shrinks.
# One heap for all threads, since those of other threads are small: Dask computes in a thread.
VARIABLES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_ARENA_MAX": "1",
}
# The same options by number, for a process that runs already (M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h).
_OPTIONS = {-4: 0, -1: 2**31 - 1, -2: 2**26}


def keep_memory() -> None:
    """Let this process keep what it frees; nothing changes where the C library is another."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for option, value in _OPTIONS.items():
            mallopt(option, value)
