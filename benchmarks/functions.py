"""Speed of JAX functions here against the same gradients written by hand, in one run.

    KERAS_BACKEND=jax uv run python -m benchmarks functions [NAME ...] [--batch 4]

NAME is a network of keras.applications, with random weights. By hand is `jax.jit` of the model's
own call, or of `jax.grad` of a score, without xaimaps. Rounds are interleaved, on the same images
in one process; the table has the smallest of each in milliseconds, and the largest difference of
the gradients, relative to the largest gradient.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
import numpy as np

import xaimaps
from xaimaps.targets import as_target

NAMES = ("MobileNetV3Large", "EfficientNetB0", "ConvNeXtTiny", "ResNet50")
CLASS = 3
SIZE = (224, 224, 3)

Call = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    print("| model | forward | by hand | gradient | by hand | difference |")
    print("|---|---|---|---|---|---|")
    for name in given.names:
        print(" | ".join(row(name, given.batch, given.rounds)), flush=True)


def row(name: str, batch: int, rounds: int) -> Iterator[str]:
    """Yield the cells of one model."""
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(
        weights=None, input_shape=SIZE, classifier_activation=None
    )
    images = np.random.default_rng(0).random((batch, *SIZE), np.float32)
    calls = {**here(network, images), **by_hand(network, images)}
    gradients = [np.asarray(calls[key]()) for key in ("gradient", "gradient by hand")]
    times = measured(calls, rounds)
    yield f"| {name}"
    for key in ("forward", "gradient"):
        yield f"{times[key]:.0f}"
        yield f"{times[key + ' by hand']:.0f}"
    yield f"{np.abs(gradients[0] - gradients[1]).max() / np.abs(gradients[1]).max():.1e} |"


def here(network: Any, images: Any) -> dict[str, Call]:
    """Return the programs of xaimaps: the outputs, and the gradient of a score."""
    model = xaimaps.load(network, backend="jax", preprocess="raw")
    batch, score = model.asarray(images), as_target(CLASS, len(images))
    forward = model.compile(lambda view, images: view.forward(images), batch)
    gradient = model.compile(lambda view, images: view.grad(images, score).gradients, batch)
    return {"forward": lambda: forward(batch), "gradient": lambda: gradient(batch)}


def by_hand(network: Any, images: Any) -> dict[str, Call]:
    """Return the same by `jax.jit` and `jax.grad` of the model's call."""
    weights = [[v.value for v in network.trainable_variables]]
    weights.append([v.value for v in network.non_trainable_variables])

    def scores(images: Any) -> Any:
        return network.stateless_call(*weights, images, training=False)[0]

    forward = jax.jit(scores)
    gradient = jax.jit(jax.grad(lambda images: scores(images)[:, CLASS].sum()))
    return {
        "forward by hand": lambda: forward(images),
        "gradient by hand": lambda: gradient(images),
    }


def measured(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the smallest time of each call in milliseconds."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return best


if __name__ == "__main__":
    main()
