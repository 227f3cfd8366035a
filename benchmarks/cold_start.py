"""Seconds to the first map in a new process, without and with compiled programs on disk.

    uv run --group frameworks python -m benchmarks cold_start [--only NETWORK ...]

Each network is explained by saliency in processes of JAX: one without programs on disk, one that
writes them, if they have a form on disk, and one that looks for them. Two further processes write
and find those of a process that keeps freed memory, as the command line does
(`xaimaps.keep_memory`). `start` is until the model is loaded, imports included; `first` is the
first map, and `next` the median of nine more; `eight` is for each of eight images at a time.
Written to benchmarks/results/cold-start-cpu.md, or -gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._timing import machine
from benchmarks.peers.networks import EMBEDDED, TRANSFORMER, network

RESULTS = Path(__file__).parent / "results"
NETWORKS = (EMBEDDED, "ResNet50", TRANSFORMER)
CHILD = """
import time
begin = time.perf_counter()
import json, statistics, sys
import jax, numpy
import xaimaps

if sys.argv[2:]:
    xaimaps.keep_memory()

def explained(images):
    begin = time.perf_counter()
    xaimaps.attribute(model, images, "saliency", target=285)
    return (time.perf_counter() - begin) / len(images)

model = xaimaps.load(sys.argv[1], backend="jax", preprocess="tf")
started = time.perf_counter() - begin
images = numpy.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
first, *others = [explained(images) for _ in range(10)]
_, *eight = [explained(numpy.repeat(images, 8, axis=0)) for _ in range(10)]
platform = jax.local_devices()[0].platform
print(json.dumps([platform, started, first, *map(statistics.median, (others, eight))]))
"""
HEAD = """# The first map in a new process

Saliency of one image of 224 x 224 in JAX, on {machine}; written by `python -m benchmarks
cold_start`. `start` is until the model is loaded, imports included; `eight` is for each of eight
images at a time.

| network | programs on disk | start, s | first map, s | next map, s | eight, s |
|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=NETWORKS, choices=NETWORKS)
    args = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only:
            file = network(name).file
            for told, *setup in (
                ("none",),
                ("first process",),
                ("later process",),
                ("first process, memory kept", "keep"),
                ("later process, memory kept", "keep"),
            ):
                platform, *times = measured(file, None if told == "none" else folder, *setup)
                lines.append(f"| {name} | {told} | {' | '.join(f'{one:.3g}' for one in times)} |\n")
                print(lines[-1], end="", flush=True)
    page = HEAD.format(machine=machine("jax", "jaxlib")) + "".join(lines)
    (RESULTS / f"cold-start-{platform}.md").write_text(page)


def measured(file: Path, cache: str | None, *setup: str) -> tuple[str, float, float, float, float]:
    """Return the platform and the seconds of a new process, whose programs a folder keeps."""
    settings = {"XDG_CACHE_HOME": cache or "", "JAX_ENABLE_COMPILATION_CACHE": str(bool(cache))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(file), *setup],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    platform, *times = json.loads(done.stdout.splitlines()[-1])
    return (platform, *times)


if __name__ == "__main__":
    main()
