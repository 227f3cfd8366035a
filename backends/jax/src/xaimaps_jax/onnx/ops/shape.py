"""Operators that move elements without changing them."""

from __future__ import annotations

import math
from typing import Any

from xaimaps_jax.onnx.registry import op

Array = Any


@op("Flatten")
def flatten(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """A matrix: the axes before `axis` are its rows."""
    axis = axis % x.ndim if axis < 0 else axis
    return xp.reshape(x, (math.prod(x.shape[:axis]), -1))
