"""Activation functions, with the slopes at kinks that PyTorch and ONNX exporters expect.

ReLU and Clip have slope 0 at their kinks.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from xaimaps_jax.onnx.registry import op

Array = Any


@op("Relu")
def relu(xp: Any, x: Array) -> Array:
    """max(x, 0), with slope 0 at 0."""
    return xp.where(x > 0, x, xp.zeros_like(x))


@op("Clip")
def clip_6(xp: Any, x: Array, *, min: float | None = None, max: float | None = None) -> Array:
    """Bounds as attributes."""
    return clip_11(xp, x, min, max)


@op("Clip", since=11)
def clip_11(xp: Any, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Bound x, with slope 0 at and beyond the bounds."""
    if low is not None:
        low = xp.asarray(low, dtype=x.dtype)
        x = xp.where(x > low, x, low)
    if high is not None:
        high = xp.asarray(high, dtype=x.dtype)
        x = xp.where(x < high, x, high)
    return x


@op("Sigmoid")
def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(jnp.asarray(x))


@op("Softmax")
def softmax_1(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """Softmax over all axes from `axis` on."""
    return _over_flattened(softmax_13, x, axis)


@op("Softmax", since=13)
def softmax_13(xp: Any, x: Array, *, axis: int = -1) -> Array:
    """exp(x) / sum(exp(x)) along one axis."""
    return jax.nn.softmax(jnp.asarray(x), axis=axis)


def _over_flattened(rule: Any, x: Array, axis: int) -> Array:
    """Run a rule along the last axis of x as a matrix, as these operators did before opset 13."""
    rows = math.prod(x.shape[: axis % x.ndim if x.ndim else 0])
    return rule(jnp, jnp.reshape(x, (rows, -1)), axis=-1).reshape(x.shape)
