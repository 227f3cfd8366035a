"""Operators that work on each element by itself, with numpy's broadcasting."""

from __future__ import annotations

import functools
from typing import Any

from xaimaps_jax.onnx.registry import op

Array = Any


@op("Add", since=7)
def add(xp: Any, a: Array, b: Array) -> Array:
    """a + b."""
    return xp.add(a, b)


@op("Sub", since=7)
def sub(xp: Any, a: Array, b: Array) -> Array:
    """a - b."""
    return xp.subtract(a, b)


@op("Mul", since=7)
def mul(xp: Any, a: Array, b: Array) -> Array:
    """a * b."""
    return xp.multiply(a, b)


@op("Sum")
def sum_(xp: Any, *terms: Array) -> Array:
    """The sum of any number of tensors."""
    return functools.reduce(xp.add, terms)


@op("Identity", "Dropout")
def identity(xp: Any, x: Array) -> Array:
    """The input itself."""
    return x
