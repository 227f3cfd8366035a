"""The array functions that the methods use, by their Array API names.

The table is complete: a method can use no other function. As in JAX, floats are float32 and counts
are int32 by default; Python numbers take the type of the other operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Array = Any
Axis = int | tuple[int, ...] | None

inf = float("inf")
int32 = tf.int32

abs = tf.abs
any = tf.reduce_any
broadcast_to = tf.broadcast_to
exp = tf.exp
floor = tf.floor
log = tf.math.log
matrix_transpose = tf.linalg.matrix_transpose
maximum = tf.maximum
minimum = tf.minimum
ones_like = tf.ones_like
reshape = tf.reshape
sqrt = tf.sqrt
tanh = tf.tanh
where = tf.where
zeros_like = tf.zeros_like


def arange(start: int, stop: int | None = None, step: int = 1, *, dtype: Any = None) -> Array:
    """Return `start`, `start + step` and so on, up to but without `stop`."""
    first, end = (0, start) if stop is None else (start, stop)
    return tf.constant(np.arange(first, end, step), dtype or int32)


def argmax(x: Array, *, axis: int) -> Array:
    """Return the index of the first maximum."""
    return tf.argmax(x, axis=axis, output_type=int32)


def argsort(x: Array, *, axis: int = -1, stable: Any = True) -> Array:
    """Return the indices that sort the values in ascending order; ties keep their order."""
    return tf.argsort(x, axis=axis, stable=stable)


def astype(x: Array, dtype: Any) -> Array:
    """Return the values in another type."""
    return tf.cast(x, dtype)


def clip(x: Array, low: float, high: float) -> Array:
    """Bound the values to `low` and `high`."""
    return tf.clip_by_value(x, low, high)


def concat(arrays: Sequence[Array], *, axis: int = 0) -> Array:
    """Join arrays along an axis."""
    return tf.concat(arrays, axis)


def eye(n: int, *, dtype: Any = None) -> Array:
    """Return the identity matrix."""
    return tf.eye(n, dtype=dtype or tf.float32)


def flip(x: Array, *, axis: int) -> Array:
    """Reverse the values along an axis."""
    return tf.reverse(x, [axis])


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    """Permute the axes."""
    return tf.transpose(x, axes)


def full(shape: Sequence[int], value: float, *, dtype: Any = None) -> Array:
    """Return an array of one value."""
    return tf.fill(tuple(shape), tf.cast(value, dtype or tf.float32))


def full_like(x: Array, value: float) -> Array:
    """Return an array of one value, in the shape and type of `x`."""
    return tf.fill(tf.shape(x), tf.cast(value, x.dtype))


def matmul(a: Array, b: Array) -> Array:
    """Return the products of matrices `(..., i, j)` and `(..., j, k)`.

    A product with a single matrix is computed without broadcasting, because in TensorFlow 2.20 with
    oneDNN consecutive broadcast products crash with a segmentation fault.
    """
    ranks = a.shape.rank, b.shape.rank
    if ranks[0] == ranks[1] or 2 not in ranks:
        return tf.matmul(a, b)
    if ranks[1] == 2:
        return tf.reshape(tf.reshape(a, (-1, a.shape[-1])) @ b, (*a.shape[:-1], b.shape[-1]))
    return matrix_transpose(matmul(matrix_transpose(b), matrix_transpose(a)))


def max(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the largest value."""
    return tf.reduce_max(x, axis, keepdims)


def mean(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the mean."""
    return tf.reduce_mean(x, axis, keepdims)


def min(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the smallest value."""
    return tf.reduce_min(x, axis, keepdims)


def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """Move axes to new positions; the other axes keep their order."""
    rank = len(x.shape)
    moved = [int(axis) % rank for axis in np.atleast_1d(source)]
    places = [int(axis) % rank for axis in np.atleast_1d(destination)]
    order = [axis for axis in range(rank) if axis not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return tf.transpose(x, order)


def ones(shape: Sequence[int], *, dtype: Any = None) -> Array:
    """Return an array of ones."""
    return tf.ones(tuple(shape), dtype or tf.float32)


def prod(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the product."""
    return tf.reduce_prod(x, axis, keepdims)


def sort(x: Array, *, axis: int = -1) -> Array:
    """Return the values in ascending order."""
    return tf.sort(x, axis=axis)


def stack(arrays: Sequence[Array], *, axis: int = 0) -> Array:
    """Join arrays along a new axis."""
    return tf.stack(arrays, axis)


def sum(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the sum."""
    return tf.reduce_sum(x, axis, keepdims)


def take(x: Array, indices: Array, *, axis: int) -> Array:
    """Return the entries at `indices` along an axis."""
    return tf.gather(x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, *, axis: int = -1) -> Array:
    """Return the entries at `indices` along an axis, with separate indices for each row."""
    last, places = moveaxis(x, axis, -1), moveaxis(indices, axis, -1)
    return moveaxis(tf.gather(last, places, batch_dims=len(x.shape) - 1), -1, axis)


def var(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """Return the variance, divided by the number of values."""
    return tf.math.reduce_variance(x, axis, keepdims)


def zeros(shape: Sequence[int], *, dtype: Any = None) -> Array:
    """Return an array of zeros."""
    return tf.zeros(tuple(shape), dtype or tf.float32)
