"""Times of several programs, measured in turns so that other work on the machine touches all."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Call = Callable[[], Any]

SETTLING_S = 0.2
"""How long a program runs by itself before it is measured.

The threads of ONNX Runtime wait for work for a while after theirs is done, which takes time from
the program that is next.
"""


def seconds(run: Call) -> float:
    """Return how long one run takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def settled(run: Call) -> float:
    """Return how long one run takes after others of the same program, unless it is a long one."""
    end = time.perf_counter() + SETTLING_S
    while (found := seconds(run)) < SETTLING_S and time.perf_counter() < end:
        pass
    return found if found >= SETTLING_S else seconds(run)


def rounds_of(longest: float) -> int:
    """Return how often programs are measured of which the slowest takes so many seconds."""
    return 9 if longest < 1 else 3 if longest < 5 else 1


def interleaved(runs: Mapping[str, Call], rounds: int | None = None) -> dict[str, list[float]]:
    """Return the times of each program in seconds, in every round one of each.

    Args:
        runs: the programs by name, each of which has run before, because the first run compiles.
        rounds: how often; None for fewer where a program takes long.
    """
    table = [{name: settled(run) for name, run in runs.items()}]
    count = rounds or rounds_of(max(table[0].values(), default=0))
    table += [{name: settled(run) for name, run in runs.items()} for _ in range(count - 1)]
    return {name: [row[name] for row in table] for name in runs}


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each program's times."""
    return {name: median(found) for name, found in times.items()}


def versions(*names: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    installed = importlib.metadata.distributions()
    known = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in installed}
    return {name: known[name] for name in names if name in known}


def machine(*names: str) -> str:
    """Return the number of processors and the versions of packages, as a sentence has them."""
    told = ", ".join(f"{name} {version}" for name, version in versions(*names).items())
    return f"{os.cpu_count()} processors, with {told}"
