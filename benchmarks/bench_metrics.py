"""Seconds of each metric for one picture, and of as many bare forward passes in batches of 8.

    uv run python benchmarks/bench_metrics.py [BACKEND] [ROUNDS]

The model is the embedded network, the map that of Grad-CAM. Metrics that run the method again are
not timed, since their time is that of the method. Each row is the median of interleaved rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xaimaps
from xaimaps.metrics import METRICS, measure

PASSES = {"deletion": 33, "insertion": 33, "average_drop": 2, "average_increase": 2}
PASSES |= {"average_gain": 2, "mu_fidelity": 201, "faithfulness_correlation": 101}
PASSES |= {"infidelity": 101, "road": 18}
"""The images that a metric scores by default."""

BATCH = 8


def seconds(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main(backend: str = "jax", rounds: str = "5") -> None:
    model = xaimaps.load("default", backend=backend)
    found = xaimaps.explain(model, xaimaps.zoo.PICTURES["coffee"])
    images = np.random.default_rng(0).normal(size=(BATCH, 224, 224, 3)).astype(np.float32)
    image = images[:1]
    native = model.asarray(images)
    forward = model.compiled("bare", lambda b, images: b.forward(images), native)

    def bare() -> float:
        return seconds(lambda: model.to_numpy(forward(native))) / BATCH

    def judged(name: str) -> float:
        return seconds(lambda: measure(model, image, found.maps, [name], target=504))

    print("| metric | images | ms | x bare passes |\n|---|---|---|---|")
    for name in [name for name in METRICS if name in PASSES]:
        pairs = [(judged(name), bare()) for _ in range(int(rounds) + 1)][1:]  # the first compiles
        ms = 1e3 * statistics.median(own for own, _ in pairs)
        ratio = statistics.median(own / (PASSES[name] * one) for own, one in pairs)
        print(f"| {name} | {PASSES[name]} | {ms:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
