"""The array functions that the methods use, by their Array API names.

A closed table: what is not here, no method may use. As with JAX, floats are float32 and counts
int32 unless the caller says otherwise; Python numbers take the type of the array beside them.
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
where = tf.where
zeros_like = tf.zeros_like


def arange(start: int, stop: int | None = None, step: int = 1, *, dtype: Any = None) -> Array:
    """`start`, `start + step` and so on up to `stop`, which is left out."""
    first, end = (0, start) if stop is None else (start, stop)
    return tf.constant(np.arange(first, end, step), dtype or int32)


def argmax(x: Array, *, axis: int) -> Array:
    """The place of the first maximum."""
    return tf.argmax(x, axis=axis, output_type=int32)


def argsort(x: Array, *, axis: int = -1, stable: Any = True) -> Array:
    """The places from the smallest value to the largest; of equal ones, the first comes first."""
    return tf.argsort(x, axis=axis, stable=stable)


def astype(x: Array, dtype: Any) -> Array:
    """The same values in another type."""
    return tf.cast(x, dtype)


def clip(x: Array, low: float, high: float) -> Array:
    """Values below `low` and above `high` replaced by these."""
    return tf.clip_by_value(x, low, high)


def concat(arrays: Sequence[Array], *, axis: int = 0) -> Array:
    """Arrays one after the other."""
    return tf.concat(arrays, axis)


def eye(n: int, *, dtype: Any = None) -> Array:
    """The identity matrix."""
    return tf.eye(n, dtype=dtype or tf.float32)


def flip(x: Array, *, axis: int) -> Array:
    """The values in the opposite order."""
    return tf.reverse(x, [axis])


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    """The axes in another order."""
    return tf.transpose(x, axes)


def full(shape: Sequence[int], value: float, *, dtype: Any = None) -> Array:
    """One value everywhere."""
    return tf.fill(tuple(shape), tf.cast(value, dtype or tf.float32))


def full_like(x: Array, value: float) -> Array:
    """One value everywhere, in the shape and type of `x`."""
    return tf.fill(tf.shape(x), tf.cast(value, x.dtype))


def matmul(a: Array, b: Array) -> Array:
    """The products of matrices `(..., i, j)` and `(..., j, k)`.

    One matrix for many is a product of two matrices: in TensorFlow 2.20 with oneDNN broadcast
    products, one behind the other, end in a segmentation fault.
    """
    ranks = a.shape.rank, b.shape.rank
    if ranks[0] == ranks[1] or 2 not in ranks:
        return tf.matmul(a, b)
    if ranks[1] == 2:
        return tf.reshape(tf.reshape(a, (-1, a.shape[-1])) @ b, (*a.shape[:-1], b.shape[-1]))
    return matrix_transpose(matmul(matrix_transpose(b), matrix_transpose(a)))


def max(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The largest value."""
    return tf.reduce_max(x, axis, keepdims)


def mean(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The mean."""
    return tf.reduce_mean(x, axis, keepdims)


def min(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The smallest value."""
    return tf.reduce_min(x, axis, keepdims)


def moveaxis(x: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Array:
    """Axes moved to new places, the others in their order."""
    rank = len(x.shape)
    moved = [int(axis) % rank for axis in np.atleast_1d(source)]
    places = [int(axis) % rank for axis in np.atleast_1d(destination)]
    order = [axis for axis in range(rank) if axis not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return tf.transpose(x, order)


def ones(shape: Sequence[int], *, dtype: Any = None) -> Array:
    """Ones."""
    return tf.ones(tuple(shape), dtype or tf.float32)


def prod(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The product."""
    return tf.reduce_prod(x, axis, keepdims)


def sort(x: Array, *, axis: int = -1) -> Array:
    """The values from the smallest to the largest."""
    return tf.sort(x, axis=axis)


def stack(arrays: Sequence[Array], *, axis: int = 0) -> Array:
    """Arrays beside each other along a new axis."""
    return tf.stack(arrays, axis)


def sum(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The sum."""
    return tf.reduce_sum(x, axis, keepdims)


def take(x: Array, indices: Array, *, axis: int) -> Array:
    """The entries at `indices` along an axis."""
    return tf.gather(x, indices, axis=axis)


def take_along_axis(x: Array, indices: Array, *, axis: int = -1) -> Array:
    """The entries at `indices` along an axis, each row with its own."""
    last, places = moveaxis(x, axis, -1), moveaxis(indices, axis, -1)
    return moveaxis(tf.gather(last, places, batch_dims=len(x.shape) - 1), -1, axis)


def var(x: Array, *, axis: Axis = None, keepdims: Any = False) -> Array:
    """The mean squared distance from the mean."""
    return tf.math.reduce_variance(x, axis, keepdims)


def zeros(shape: Sequence[int], *, dtype: Any = None) -> Array:
    """Zeros."""
    return tf.zeros(tuple(shape), dtype or tf.float32)
