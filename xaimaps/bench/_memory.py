"""The peak memory of this process."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

from xaimaps._memory import return_memory

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Begin a new peak, where the system can; otherwise a peak is that since the process began."""
    return_memory()
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """Return the peak of the resident memory; None where the system does not say it."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", (_PROCESS / "status").read_text())
        return int(found[1]) << 10 if found else None
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
