"""Seconds to the first map in a new process, without and with compiled programs on disk.

    uv run --group frameworks python -m benchmarks cold_start [--only NETWORK ...]

Each network is explained by saliency in processes of JAX: one without programs on disk, one that
writes them, if they have a form on disk, and one that looks for them. Two further processes write
and find those of a process that keeps freed memory, as the command line does
(`xaimaps.keep_memory`). Grad-CAM without programs on disk runs with its forward pass in JAX and in
ONNX Runtime. `start` is until the model is loaded, imports included; `first` is the first map, and
`next` the median of nine more; `eight` is for each of eight images at a time. Written to
benchmarks/results/cold-start-cpu.md, or -gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from benchmarks._timing import machine
from benchmarks.peers.networks import EMBEDDED, TRANSFORMER, network

RESULTS = Path(__file__).parent / "results"
NETWORKS = (EMBEDDED, "ResNet50", TRANSFORMER)
CHILD = """
import time
begin = time.perf_counter()
import json, statistics, sys
import numpy
import xaimaps

file, method, forward, *keep = sys.argv[1:]
if keep:
    xaimaps.keep_memory()

def explained(images):
    begin = time.perf_counter()
    xaimaps.attribute(model, images, method, target=285)
    return (time.perf_counter() - begin) / len(images)

model = xaimaps.load(file, backend="jax", preprocess="tf", forward=forward)
started = time.perf_counter() - begin
images = numpy.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")
first, *others = [explained(images) for _ in range(10)]
_, *eight = [explained(numpy.repeat(images, 8, axis=0)) for _ in range(10)]
print(json.dumps([started, first, *map(statistics.median, (others, eight))]))
"""
HEAD = """# The first map in a new process

One image of 224 x 224 in JAX, on {machine}; written by `python -m benchmarks cold_start`. `start`
is until the model is loaded, imports included; `eight` is for each of eight images at a time.
"""
TABLE = """
## {title}

| network | {case} | start, s | first map, s | next map, s | eight, s |
|---|---|---|---|---|---|
"""
KEPT = {
    "none": (),
    "first process": (),
    "later process": (),
    "first process, memory kept": ("keep",),
    "later process, memory kept": ("keep",),
}
"""The cases of programs on disk, each with the last arguments of its process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=NETWORKS, choices=NETWORKS)
    args = parser.parse_args()
    files = {name: network(name).file for name in args.only}
    page = HEAD.format(machine=machine("jax", "jaxlib", "onnxruntime"))
    page += TABLE.format(title="Saliency", case="programs on disk")
    for name, file in files.items():
        with tempfile.TemporaryDirectory() as folder:
            for told, keep in KEPT.items():
                cache = None if told == "none" else folder
                times = measured(file, cache, "saliency", "jax", *keep)
                page += line(name, told, times)
    page += TABLE.format(title="Grad-CAM, without programs on disk", case="forward pass")
    for name, file in files.items():
        for told, forward in (("JAX", "jax"), ("ONNX Runtime", "onnxruntime")):
            page += line(name, told, measured(file, None, "grad_cam", forward))
    (RESULTS / f"cold-start-{jax.local_devices()[0].platform}.md").write_text(page)


def line(name: str, told: str, times: list[float]) -> str:
    """Print and return a line of a table, with the seconds of a new process."""
    found = f"| {name} | {told} | {' | '.join(f'{one:.3g}' for one in times)} |\n"
    print(found, end="", flush=True)
    return found


def measured(file: Path, cache: str | None, *arguments: str) -> list[float]:
    """Return the seconds of a new process, whose programs a folder keeps."""
    settings = {"XDG_CACHE_HOME": cache or "", "JAX_ENABLE_COMPILATION_CACHE": str(bool(cache))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(file), *arguments],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


if __name__ == "__main__":
    main()
