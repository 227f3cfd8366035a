"""Speed of ONNX files in JAX against ONNX Runtime, in one run.

    uv run python -m benchmarks onnx_speed [MODEL.onnx ...] [--batch 1 8] [--rounds 15] [--json]

Without a model, the embedded one. All timings of a row are interleaved, round by round, in one
process on the same data, and the table shows their medians: the forward pass of each; Grad-CAM
at the default layer and the input gradient over JAX's own forward pass; and how long XLA took to
compile each of the three.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime

import xaimaps
from benchmarks._timing import Call, interleaved, medians
from xaimaps.backend import Backend
from xaimaps.methods import METHODS

PROGRAMS = ("forward", "grad_cam", "saliency")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, default=[xaimaps.zoo.MODELS["default"]])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [measure(path, batch, args.rounds) for path in args.models for batch in args.batch]
    print(json.dumps(rows, indent=1) if args.json else as_table(rows))


def measure(path: Path, batch: int, rounds: int) -> dict[str, Any]:
    """One row: a model at a batch size."""
    backend = xaimaps.load(path)
    height, width, channels = (size or 224 for size in backend.input_shape)
    images = np.random.default_rng(0).normal(size=(batch, height, width, channels))
    programs, compiled = compile_all(backend, images.astype(np.float32))
    runs = {"runtime": runtime(path, images.astype(np.float32)), **programs}
    found = medians(interleaved(runs, rounds))
    own = found["forward"]
    return {
        "model": path.stem,
        "batch": batch,
        "runtime_ms": 1e3 * found["runtime"],
        "forward_ms": 1e3 * own,
        "forward_over_runtime": own / found["runtime"],
        "grad_cam_over_forward": found["grad_cam"] / own,
        "input_gradient_over_forward": found["saliency"] / own,
        "compile_s": compiled,
    }


def compile_all(backend: Backend, images: Any) -> tuple[dict[str, Call], dict[str, float]]:
    """The three programs, warmed up, and the seconds that their compilation took."""
    array = jax.device_put(images)
    programs: dict[str, Call] = {}
    seconds = {}
    for name in PROGRAMS:
        begin = time.perf_counter()
        compiled = backend.compile(program(name), array)
        seconds[name] = time.perf_counter() - begin
        programs[name] = partial(synchronous, compiled, array)
        programs[name]()
    return programs, seconds


def synchronous(compiled: Callable[[Any], Any], array: Any) -> Any:
    return jax.block_until_ready(compiled(array))


def program(name: str) -> Callable[[Backend, Any], Any]:
    if name == "forward":
        return lambda backend, images: backend.forward(images)
    return lambda backend, images: METHODS[name].fn(backend, images).maps


def runtime(path: Path, images: Any) -> Call:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    is_planar = source.shape[1] in (1, 3)
    array = np.ascontiguousarray(images.transpose(0, 3, 1, 2) if is_planar else images)
    session.run(None, {source.name: array})
    return lambda: session.run(None, {source.name: array})


def as_table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| model | batch | ONNX Runtime ms | JAX ms | ratio | Grad-CAM / forward | "
        "input gradient / forward | compile s (forward, Grad-CAM, input) |\n|" + "---|" * 8
    )
    lines = [
        f"| {r['model']} | {r['batch']} | {r['runtime_ms']:.1f} | {r['forward_ms']:.1f} | "
        f"{r['forward_over_runtime']:.2f} | {r['grad_cam_over_forward']:.2f} | "
        f"{r['input_gradient_over_forward']:.2f} | "
        + ", ".join(f"{r['compile_s'][name]:.1f}" for name in PROGRAMS)
        + " |"
        for r in rows
    ]
    ratios = [r["forward_over_runtime"] for r in rows]
    mean = statistics.geometric_mean(ratios)
    return "\n".join([head, *lines, "", f"Geometric mean of the ratios: {mean:.2f}"])


if __name__ == "__main__":
    main()
