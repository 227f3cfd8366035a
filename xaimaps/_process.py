"""Settings of a process that make it faster: the command line's own, and in Python on request."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def prepare_process() -> None:
    """Set up this process as the command line does, so that maps take less time.

    - JAX keeps compiled programs on disk for later processes, in `~/.cache/xaimaps/jax` or below
      `XDG_CACHE_HOME`, also those of processes that this one starts, unless a folder of JAX's cache
      has been configured.
    - With glibc, memory that is freed stays with the process, and the next run has no page fault
      for each 4 kB of its values: on a CPU, gradients of several images take 4 to 36 % less time.
      All threads share one heap, and the process keeps the most memory that it has needed, unless
      the environment has parameters of the allocator (`GLIBC_TUNABLES`, `MALLOC_ARENA_MAX` and the
      like).

    Both concern everything in the process, so no other function of xaimaps does this. Call it
    before the first model is loaded.
    """
    keep_programs()
    keep_memory()


def keep_programs() -> None:
    """Enable JAX's cache of compiled programs, unless the user has configured it."""
    loaded: Any = sys.modules.get("jax")
    in_jax = loaded is not None and loaded.config.jax_compilation_cache_dir
    if in_jax or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xaimaps" / "jax"
    settings = {
        "jax_compilation_cache_dir": str(cache),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    for name, value in settings.items():
        if name.upper() not in os.environ:
            os.environ[name.upper()] = str(value)
            if loaded is not None:  # it has read its environment
                loaded.config.update(name, value)


def keep_memory() -> None:
    """Let glibc keep freed memory for the next run, unless the user has configured it."""
    tuned = "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name in os.environ for name in _CONFIGURED):
        return
    if (library := _glibc()) is not None:
        for parameter, value in _ALLOCATOR.items():
            library.mallopt(parameter, value)


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
