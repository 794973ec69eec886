"""What a process does with memory that it has freed: it keeps it for its next arrays.

The C library of Linux (glibc) gives large blocks back to the system and gets every page of them again, zeroed, for the
next array. That costs a network a quarter of its time, and half where Dask sets `MALLOC_TRIM_THRESHOLD_`, as it does
for its workers. The price is memory: what lies between blocks in use is not given back, 250 MB for a worker of
`segment_part`.
"""

import ctypes

# All blocks come from one heap, which grows by large steps and does not shrink: the variable that glibc reads when a
# process starts, the number of the same option in malloc.h, and its value.
_OPTIONS = (("MALLOC_MMAP_MAX_", -4, 0), ("MALLOC_TRIM_THRESHOLD_", -1, 2**31 - 1), ("MALLOC_TOP_PAD_", -2, 2**26))
# Threads share the heap, since Dask computes in one. Of use to a process that starts only.
VARIABLES = {name: str(value) for name, _, value in _OPTIONS} | {"MALLOC_ARENA_MAX": "1"}


def keep_memory() -> None:
    """Let this process keep what it frees; nothing changes where the C library is another."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for _, number, value in _OPTIONS:
            mallopt(number, value)
