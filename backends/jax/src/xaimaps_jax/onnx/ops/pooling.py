"""Poolings."""

from __future__ import annotations

from typing import Any

from xaimaps_jax.onnx.registry import op

Array = Any


@op("GlobalAveragePool")
def global_average_pool(xp: Any, x: Array) -> Array:
    """The mean over all places, which stay as axes of size 1."""
    return xp.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)
