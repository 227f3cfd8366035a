"""What the process does with freed memory: the command line keeps it, Python on request."""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import suppress

_ALLOCATOR = {
    -4: 0,  # M_MMAP_MAX: large arrays come from the heap too, not from the system
    -1: -1,  # M_TRIM_THRESHOLD: freed memory stays in the heap
    -8: 1,  # M_ARENA_MAX: one heap for all threads, as those of further ones hold 64 MB at most
}
"""The parameters of glibc's `mallopt`, by the numbers in its header."""

_CONFIGURED = (
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
)
"""The environment variables of these and related parameters."""

_KEPT = threading.Event()
"""Set once this process keeps freed memory."""


def keep_memory() -> None:
    """Let this process keep the memory that it frees, as the command line does, for faster maps.

    With glibc, the next run then has no page fault for each 4 kB of its values: on a CPU, gradients
    of several images take up to a quarter less time. JAX's programs then allocate their values as
    one block, and all of them are on disk for later processes. All threads share one heap, and the
    process keeps the most memory that it has needed.

    This concerns everything in the process, so no other function of xaimaps does it. Call it before
    the first model is loaded. It does nothing without glibc, and if the environment has parameters
    of the allocator (`GLIBC_TUNABLES`, `MALLOC_ARENA_MAX` and the like).
    """
    tuned = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name in os.environ for name in _CONFIGURED):
        return
    if (library := _glibc()) is not None:
        for parameter, value in _ALLOCATOR.items():
            library.mallopt(parameter, value)
        _KEPT.set()


def is_memory_kept() -> bool:
    """Return whether freed memory stays with this process; systems without glibc count as such."""
    return _KEPT.is_set() or _glibc() is None


def return_memory() -> None:
    """Return freed memory to the system, with glibc."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process, if it is glibc."""
    with suppress(AttributeError, ValueError, OSError):  # of other systems, and other libraries
        if os.confstr("CS_GNU_LIBC_VERSION"):
            return ctypes.CDLL(None)
    return None
