"""A run on a Ray cluster of this machine against the same run without Ray.

    uv run --group ray python benchmarks/batch_ray.py [--pictures 5000]

The start of the cluster and of its processes is told apart from the rate after it, that is from the
first chunk of the store to the last.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import batch_kills
import numpy as np

from xaimaps import batch

RESULTS = Path(__file__).parent / "results" / "batch-ray.md"


def load() -> object:
    """Load the network in the process that explains."""
    import xaimaps

    return xaimaps.load("net.onnx", preprocess="unit")


def measured(folder: str, ray: str | None) -> tuple[float, float, float]:
    """Run, and return the seconds of all, those until the first chunk, and the rate after it."""
    settings = batch.Settings(chunk_size=batch_kills.CHUNK)
    begin, clock = time.perf_counter(), time.time()
    done = batch.run(load if ray else load(), "pictures", folder, settings=settings, ray=ray)
    whole = time.perf_counter() - begin
    times = np.sort([file.stat().st_mtime for file in Path(folder, "maps").iterdir()])
    rate = (done.pictures - batch_kills.CHUNK) / (times[-1] - times[0])
    return whole, times[0] - clock, rate


def main() -> None:
    """Run without and with Ray, compare the stores, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=5_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("net.onnx").write_bytes(batch_kills.network())
        batch_kills.paint("pictures", given.pictures)
        # Before and after, as other work on the machine may change meanwhile.
        rows = {
            "without": measured("local", None),
            "`--ray local`": measured("ray", "local"),
            "without, again": measured("again", None),
        }
        same = batch_kills.stored("local") == batch_kills.stored("ray")
        os.chdir("/")
    (_, _, before), (_, _, rate), (_, _, after) = rows.values()
    overhead = 100 * ((before + after) / 2 / rate - 1)
    lines = [
        "# A run on a Ray cluster of one machine",
        "",
        f"{given.pictures} JPEGs of 64 x 48, a network of one convolution, Grad-CAM, one process",
        f"that explains, {os.cpu_count()} processors; written by benchmarks/batch_ray.py.",
        "",
        "| Ray | seconds | until the first chunk | pictures per second after it |",
        "|---|---|---|---|",
        *(f"| {n} | {all_:.1f} | {first:.1f} | {r:.0f} |" for n, (all_, first, r) in rows.items()),
        "",
        f"Overhead for each picture after the first chunk: {overhead:.0f} %. The time before it is",
        "that of starting the cluster, and of importing JAX and loading the model in two of its",
        "processes; it does not depend on the number of pictures.",
        "",
        f"The stores have the same bytes: {same}.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
