"""Helpers of many rules: types within JAX's precision, static integers, and size limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from onnxjax._jax import jax
from onnxjax.errors import UnsupportedModelError

Array = Any

MOST_ELEMENTS = 2**31
"""The largest array that a rule makes from a shape that is data."""


def cast(xp: Any, x: Array, dtype: Any) -> Array:
    """Convert x, in JAX to the nearest type that its precision setting allows."""
    if xp is np:
        return np.asarray(x).astype(dtype)
    return xp.asarray(x).astype(jax.dtypes.canonicalize_dtype(dtype))


def to_ints(values: Any) -> tuple[int, ...]:
    """Return the integers of a static array, a list or a single number."""
    return tuple(int(value) for value in np.asarray(values).reshape(-1))


def to_int(value: Any) -> int:
    """Return the integer of a static array with one element."""
    (number,) = to_ints(value)
    return number


def normal_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Return the axes counted from the front."""
    return tuple(axis + rank if axis < 0 else axis for axis in axes)


def require_size(shape: Sequence[int], operator: str) -> tuple[int, ...]:
    """Refuse a shape with a negative size, or with more elements than any model needs."""
    shape = to_ints(shape)
    if any(size < 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
        raise UnsupportedModelError(
            f"{operator} would make an array of shape {list(shape)}, above the limit of "
            f"{MOST_ELEMENTS} elements or below zero; check the model"
        )
    return shape
