"""How much memory a method's program takes for its values, as XLA lays it out. Embedded model, CPU.

    uv run python -m benchmarks memory

Nothing is run: a compiled program says what it will allocate, weights and image aside. It should
not grow with the number of steps or masks, and keep to the option `memory`. (SmoothGrad's noise is
drawn beforehand, 0.6 MB for each sample, so that it is the same in every framework.)
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import xaimaps
from xaimaps.methods import METHODS

COUNTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "integrated_gradients": ({"n_steps": 100}, {"n_steps": 1000}),
    "rise": ({"n_masks": 1000}, {"n_masks": 8000}),
    "occlusion": ({"stride": 16}, {"stride": 8}),
    "score_cam": ({"channels": 160}, {}),
}
"""Options for few and for many passes."""

BOUNDS = (64, 256, 512)


def main() -> None:
    print("| method | options | " + " | ".join(f"memory={bound}" for bound in BOUNDS) + " |")
    print("|---" * (2 + len(BOUNDS)) + "|")
    for name, variants in COUNTS.items():
        for options in variants:
            cells = [f"{megabytes(name, {**options, 'memory': bound}):.0f}" for bound in BOUNDS]
            shown = ", ".join(f"{key} {value}" for key, value in options.items())
            print(f"| {name} | {shown or 'all 1280 channels'} | {' | '.join(cells)} |", flush=True)


def megabytes(method: str, options: dict[str, Any]) -> float:
    """What the compiled method allocates beside its arguments and results."""
    backend = xaimaps.load("default", backend="jax")
    images = np.zeros((1, *(size or 224 for size in backend.input_shape)), np.float32)
    fn = METHODS[method].fn
    compiled = jax.jit(lambda x: fn(backend, x, 1, **options).maps).lower(images).compile()
    found = compiled.memory_analysis()
    assert found is not None
    return float(found.temp_size_in_bytes) / 1e6


if __name__ == "__main__":
    main()
