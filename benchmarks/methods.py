"""How long each method takes, in passes through the network. Embedded model, one photograph, CPU.

    uv run python -m benchmarks methods [--methods a,b] [--json]

Every round times one forward pass of one image, the passes that a method is made of (forward, or
forward and backward, as many images at a time as the method takes), and the method, one after the
other, so that whatever else the machine does touches all of them. The table shows medians, without
compilation, and the largest memory that the process has held so far. `peers` times other
libraries.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

import xaimaps
from benchmarks._timing import interleaved, medians
from xaimaps._images.open import open_picture
from xaimaps.backend import Array, Backend
from xaimaps.methods import METHODS
from xaimaps.methods._batching import MEMORY, variants_within
from xaimaps.targets import as_target

Program = Callable[[Array], Any]
Measured = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A method, and what it cannot do without.

    Attributes:
        method: its name.
        forward: forward passes.
        both: forward and backward passes.
        images: the size of the batch.
        options: the method's own.
        limit: the target: at most so much over what it cannot do without.
        of_one: the target is over one forward pass of one image instead.
    """

    method: str
    forward: int = 0
    both: int = 0
    images: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    limit: float | None = None
    of_one: bool = False

    @property
    def label(self) -> str:
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        return self.method + options + (f", batch {self.images}" if self.images > 1 else "")


ROWS = (
    Row("saliency", both=1),
    Row("cam", forward=1),
    Row("grad_cam", forward=1),
    Row("grad_cam", forward=8, images=8, limit=1.3),
    Row("grad_cam_plusplus", forward=1),
    Row("xgrad_cam", forward=1),
    Row("hires_cam", forward=1),
    Row("layer_cam", forward=1),
    Row("finer_cam", forward=1),
    Row("eigen_cam", forward=1),
    Row("eigen_grad_cam", forward=1),
    Row("smooth_grad_cam_plusplus", forward=11, options={"layer": "blocks.4.2/add"}),
    Row("ablation_cam", forward=1, limit=3.0, of_one=True),
    # Where the head has a rectifier, or the target is a function, every channel is a pass.
    Row("ablation_cam", forward=1, options={"layer": "head/bn"}),
    Row("integrated_gradients", forward=2, both=50, limit=1.15),
    Row("occlusion", forward=170),
    Row("rise", forward=513, options={"n_masks": 512}),
    Row("score_cam", forward=1281, limit=1.15),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", help="only these, with commas between them")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wanted = args.methods.split(",") if args.methods else list(METHODS)
    bench, found = Bench(), []
    rows = (bench.measured(row) for row in ROWS if row.method in wanted)
    if not args.json:
        print(f"{'':42}{'ms':>10}{'x forward':>11}{'x needed':>10}{'peak MB':>9}  target")
    for row in rows:
        found.append(row)
        if not args.json:
            print(as_line(row), flush=True)
    if args.json:
        print(json.dumps(found, indent=1))


def as_line(row: Measured) -> str:
    numbers = f"{row['ms']:10.1f}{row['over_forward']:11.2f}"
    verdict = "" if row["met"] is None else f"{row['limit']} {'met' if row['met'] else 'MISSED'}"
    return f"{row['row']:42}{numbers}{row['over_needed']:10.2f}{row['peak_mb']:9.0f}  {verdict}"


class Bench:
    """The embedded network, a photograph, and the network's passes by batch size."""

    def __init__(self) -> None:
        self.backend: Backend = xaimaps.load("default")
        prepare = self.backend.info.preprocess
        assert prepare is not None
        pixels = open_picture(xaimaps.zoo.PICTURES["chelsea"]).pixels
        self.image = prepare(pixels, (224, 224))[None].astype(np.float32)
        self._passes: dict[tuple[Any, int], Program] = {}

    def measured(self, row: Row) -> Measured:
        """Time a method beside its passes, in turns."""
        runs = {"one": self.passes(forward, 1), "method": self.method(row)}
        sizes = {name: self.at_a_time(row, name) for name in ("forward", "both")}
        for name, fn in (("forward", forward), ("both", forward_and_backward)):
            if getattr(row, name):
                runs[name] = self.passes(fn, sizes[name])
        for run in runs.values():
            run()
        times = medians(interleaved(runs))
        needed = sum(getattr(row, k) / sizes[k] * times.get(k, 0) for k in sizes)
        over_needed, over_forward = times["method"] / needed, times["method"] / times["one"]
        value = over_forward if row.of_one else over_needed
        return {
            "row": row.label,
            "ms": 1e3 * times["method"],
            "over_forward": over_forward,
            "over_needed": over_needed,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "limit": row.limit,
            "met": None if row.limit is None else value <= row.limit,
        }

    def at_a_time(self, row: Row, name: str) -> int:
        """How many images go through one of the method's passes."""
        count: int = getattr(row, name)
        if count <= row.images + 1:
            return row.images
        gradient = "grad" in METHODS[row.method].needs
        most = variants_within(self.backend, self.image, MEMORY, gradient=gradient)
        chunks = -(-count // most)
        return -(-count // chunks)

    def batch(self, size: int) -> Array:
        return self.backend.asarray(np.repeat(self.image, size, axis=0))

    def passes(self, fn: Callable[..., Any], size: int) -> Callable[[], Any]:
        if (fn, size) not in self._passes:
            self._passes[fn, size] = self.backend.compile(fn, self.batch(size))
        run, images = self._passes[fn, size], self.batch(size)
        return lambda: jax.block_until_ready(run(images))

    def method(self, row: Row) -> Callable[[], Any]:
        images, fn = self.batch(row.images), METHODS[row.method].fn
        run = self.backend.compile(lambda b, x: tuple(fn(b, x, **row.options)[:2]), images)
        return lambda: jax.block_until_ready(run(images))


def forward(backend: Backend, images: Array) -> Array:
    return backend.forward(images)


def forward_and_backward(backend: Backend, images: Array) -> tuple[Array, Array]:
    found = backend.grad(images, as_target(None, images.shape[0]))
    return found.outputs, found.gradients


if __name__ == "__main__":
    main()
