"""How much memory that a query has freed the process keeps for the next one."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 64 * 2**20
"""Of each heap of the C library, of which a thread has one; as much as a heap can have."""
_MAPPED_FROM_BYTES = 32 * 2**20
"""Blocks as large as this go back to the system at once; glibc takes no more."""
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
"""Variables of the C library."""


def keep_freed_memory() -> None:
    """Have the C library keep what was freed, up to 64 MiB a thread, instead of giving it back after each query.

    DuckDB takes the values of percentiles from there (not from its own allocator), a few bytes of each run: given back
    and taken again, each page costs a fault, on all threads at once (mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD).
    Rollup by agent with three percentiles, 10 million runs: 14,000 faults less an answer, and 90 MiB that stay. Both
    are what glibc comes to by itself once large blocks were freed. Other C libraries are left as they are, and who has
    set the variables of this one has the last word.
    """
    if any(name in os.environ for name in _OWN):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
