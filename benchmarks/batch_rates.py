"""Pictures per second of each stage of a batch run alone, and of all.

    uv run python -m benchmarks batch_rates [--pictures 192] [--rounds 7]

The pictures are JPEGs of 500 x 375, the size of ImageNet's; the network is the embedded one. Each
stage runs alone, after a first batch that compiles the program; the stages take turns for several
rounds, of which the medians count. On a CPU decoding and computing need the same processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import xaimaps
from benchmarks._pictures import photographs
from xaimaps import batch
from xaimaps._ahead import ahead
from xaimaps.batch._chunks import chunks
from xaimaps.batch._sources import Item, Source
from xaimaps.batch._store import opened
from xaimaps.batch._task import Decoded, Task
from xaimaps.batch._work import Order, explained

METHODS = ("grad_cam", "saliency")
RESULTS = Path(__file__).parent / "results" / "batch-rates.md"


def seconds(work: Callable[[], object]) -> float:
    """Return the time of some work."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure each stage, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    count, rounds = given.pictures, given.rounds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("pictures").mkdir()
        photographs(Path("pictures"), count)
        found = {method: measured(method, count, rounds) for method in METHODS}
        os.chdir("/")
    lines = [
        "# The stages of a batch run",
        "",
        f"{count} JPEGs of 500 x 375, the embedded network, {os.cpu_count()} processors; pictures",
        f"per second, medians of {rounds} rounds, written by benchmarks/batch_rates.py. Decoding",
        "and computing need the same processors.",
        "",
        f"| stage | {' | '.join(METHODS)} |",
        "|---|" + "---|" * len(METHODS),
    ]
    for stage in found[METHODS[0]]:
        lines.append(
            f"| {stage} | {' | '.join(f'{rates[stage]:.1f}' for rates in found.values())} |"
        )
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def measured(method: str, count: int, rounds: int) -> dict[str, float]:
    """Return the pictures per second of each stage, and what follows from them."""
    settings, store = batch.Settings(), Path(method)
    order = Order([method], None, None, {}, settings)
    task, items = order.task(xaimaps.load("default"), store), list(Source(("pictures",)))
    task.rows([task.decode(i, items[i]) for i in range(task.size)])
    decoded = list[Decoded]()

    def decode() -> None:
        work = partial(one, task, items)
        decoded[:] = ahead(work, range(count), settings.workers, 2 * task.size)

    def compute() -> None:
        for start in range(0, count, task.size):
            task.rows(decoded[start : start + task.size])

    def everything(run: int) -> None:
        whole(task, items, order, Path(f"{method}-{run}"))

    times = [
        (seconds(decode), seconds(compute), seconds(partial(everything, run)))
        for run in range(rounds)
    ]
    decoding, computing, rate = (
        count / statistics.median(each) for each in zip(*times, strict=True)
    )
    return {
        "decoding alone": decoding,
        "computing alone": computing,
        "one after the other": 1 / (1 / decoding + 1 / computing),
        "all": rate,
        "all, % of the slowest stage": 100 * rate / min(decoding, computing),
    }


def one(task: Task, items: list[Item], i: int) -> Decoded:
    """Decode one picture."""
    return task.decode(i, items[i])


def whole(task: Task, items: list[Item], order: Order, folder: Path) -> None:
    """Decode, compute and store."""
    settings = order.settings
    with opened(folder, order.record(task), settings.shard) as store:
        for _ in explained(task, store, settings, chunks(items, settings.chunk_size)):
            pass


if __name__ == "__main__":
    main()
