"""Settings of a process that make it faster: the command line's own, and in Python on request."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

_MOST = 2**31 - 1
_ALLOCATOR = {
    -3: _MOST,  # M_MMAP_THRESHOLD: large arrays come from the heap too, not from the system
    -1: _MOST,  # M_TRIM_THRESHOLD: freed memory stays in the heap
    -8: 1,  # M_ARENA_MAX: one heap for all threads, as those of further ones hold 64 MB at most
}
"""The parameters of glibc's `mallopt`, by the numbers in its header."""


def prepare_process() -> None:
    """Set up this process as the command line does, so that maps take less time.

    - JAX keeps compiled programs on disk for later processes, in `~/.cache/xaimaps/jax` or below
      `XDG_CACHE_HOME`, unless JAX's cache has been configured.
    - With glibc, memory that is freed stays with the process, and the next run has no page fault
      for each 4 kB of its values; gradients of several images take up to a third less time on a
      CPU. The process keeps the most memory that it has needed. Environment variables that
      configure the allocator have priority.

    Both concern everything in the process, so no other function of xaimaps does this. Call it
    before the first model is loaded.
    """
    keep_programs()
    keep_memory()


def keep_programs() -> None:
    """Enable JAX's cache of compiled programs, unless the user has configured it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xaimaps" / "jax"
    loaded: Any = sys.modules.get("jax")
    if loaded is not None and loaded.config.jax_compilation_cache_dir:
        return
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
    is_set = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if not is_set and (library := _glibc()) is not None:
        for parameter, value in _ALLOCATOR.items():
            library.mallopt(parameter, value)


def return_memory() -> None:
    """Return freed memory to the system, where it was kept."""
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
