"""A run on a Ray cluster of this machine against the same run without Ray.

    uv run --group ray python -m benchmarks batch_ray [--pictures 5000] [--model net.onnx]

The start of the cluster and of its processes is told apart from the rate after it, that is from the
first chunk of the store to the last. The model is a network of one convolution, so that what is
measured is the pipeline, or `default`, the embedded network. Each has a section of the results.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import xaimaps
from benchmarks import batch_kills
from xaimaps import batch

RESULTS = Path(__file__).parent / "results" / "batch-ray.md"


TINY = "net.onnx"
NAMES = {TINY: "A network of one convolution", "default": "The embedded network"}


def load(name: str) -> xaimaps.Backend:
    """Load the network in the process that explains."""
    return xaimaps.load(name, preprocess="unit" if name == TINY else None)


def measured(name: str, folder: str, ray: str | None) -> tuple[float, float, float]:
    """Run, and return the seconds of all, those until the first chunk, and the rate after it."""
    settings = batch.Settings(chunk_size=batch_kills.CHUNK)
    begin, clock = time.perf_counter(), time.time()
    model = functools.partial(load, name) if ray else load(name)
    done = batch.run(model, "pictures", folder, settings=settings, ray=ray)
    whole = time.perf_counter() - begin
    times = np.sort([file.stat().st_mtime for file in Path(folder, "maps").iterdir()])
    rate = (done.pictures - batch_kills.CHUNK) / (times[-1] - times[0])
    return whole, times[0] - clock, rate


def main() -> None:
    """Run without and with Ray, compare the stores, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=5_000)
    parser.add_argument("--model", choices=NAMES, default=TINY)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("net.onnx").write_bytes(batch_kills.network())
        batch_kills.paint("pictures", given.pictures)
        # Before and after, as other work on the machine may change meanwhile.
        rows = {
            "without": measured(given.model, "local", None),
            "`--ray local`": measured(given.model, "ray", "local"),
            "without, again": measured(given.model, "again", None),
        }
        same = batch_kills.stored("local") == batch_kills.stored("ray")
        os.chdir("/")
    (first, _, before), (whole, _, rate), (last, _, after) = rows.values()
    overhead = 100 * ((before + after) / 2 / rate - 1)
    overall = 100 * (2 * whole / (first + last) - 1)
    lines = [
        f"## {NAMES[given.model]}",
        "",
        f"{given.pictures} JPEGs of 64 x 48, Grad-CAM, one process that explains, {os.cpu_count()}",
        "processors; written by benchmarks/batch_ray.py.",
        "",
        "| Ray | seconds | until the first chunk | pictures per second after it |",
        "|---|---|---|---|",
        *(f"| {n} | {all_:.1f} | {start:.1f} | {r:.0f} |" for n, (all_, start, r) in rows.items()),
        "",
        f"Overhead for each picture after the first chunk: {overhead:.0f} %; of the whole run,",
        f"with the start of the cluster: {overall:.0f} %. The stores have the same bytes: {same}.",
        "",
    ]
    head, *sections = RESULTS.read_text().split("\n## ")
    others = [f"## {one}" for one in sections if not one.startswith(NAMES[given.model])]
    RESULTS.write_text("\n".join([head, *others, *lines]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
