"""Operators that move elements without changing them, and operators on shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnxjax._ops.common import normal_axes, require_size, to_int, to_ints
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@op("Flatten", kind="view", homogeneous=True)
def flatten(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """Reshape to a matrix; the axes before `axis` are its rows."""
    axis = axis + x.ndim if axis < 0 else axis
    return xp.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@op("Reshape", since=5, static=[1], kind="view", homogeneous=True, bounded=True)
def reshape(xp: Any, x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    """Reshape; a size of -1 is inferred, and a size of 0 is copied unless `allowzero`."""
    sizes = to_ints(shape)
    if not allowzero:
        sizes = tuple(x.shape[i] if size == 0 else size for i, size in enumerate(sizes))
    return xp.reshape(x, sizes)


@op("Transpose", kind="transpose", homogeneous=True, bounded=True)
def transpose(xp: Any, x: Array, *, perm: Sequence[int] | None = None) -> Array:
    """Permute the axes; the default reverses them."""
    return xp.transpose(x, perm)


@op("Squeeze", kind="view", homogeneous=True, bounded=True)
def squeeze_1(xp: Any, x: Array, *, axes: Sequence[int] | None = None) -> Array:
    """Drop axes of size 1."""
    return xp.squeeze(x, axis=None if axes is None else tuple(axes))


@op("Squeeze", since=13, static=[1])
def squeeze_13(xp: Any, x: Array, axes: Array | None = None) -> Array:
    """Drop axes of size 1."""
    return xp.squeeze(x, axis=None if axes is None else to_ints(axes))


@op("Unsqueeze", kind="view", homogeneous=True, bounded=True)
def unsqueeze_1(xp: Any, x: Array, *, axes: Sequence[int]) -> Array:
    """Insert axes of size 1."""
    return xp.expand_dims(x, tuple(axes))


@op("Unsqueeze", since=13, static=[1])
def unsqueeze_13(xp: Any, x: Array, axes: Array) -> Array:
    """Insert axes of size 1."""
    return xp.expand_dims(x, to_ints(axes))


@op("Concat", kind="concat", linear=True, bounded=True)
def concat(xp: Any, *parts: Array, axis: int = 1) -> Array:
    """Join the parts along an axis."""
    return xp.concatenate(parts, axis=axis)


@op("Expand", static=[1], kind="expand", homogeneous=True)
def expand(xp: Any, x: Array, shape: Array) -> Array:
    """Broadcast x and the shape together."""
    wanted = np.broadcast_shapes(x.shape, require_size(shape, "Expand"))
    return xp.broadcast_to(x, require_size(wanted, "Expand"))


@op("Tile", since=6, static=[1], kind="expand", homogeneous=True)
def tile(xp: Any, x: Array, repeats: Array) -> Array:
    """Repeat the whole array along each axis."""
    counts = to_ints(repeats)
    require_size([size * n for size, n in zip(x.shape, counts, strict=True)], "Tile")
    return xp.tile(x, counts)


@op("Shape", kind="size", bounded=True)
def shape_of(xp: Any, x: Array, *, start: int = 0, end: int | None = None) -> Array:
    """Return the sizes of the axes."""
    return np.asarray(x.shape[start:end], np.int64)


@op("Size", kind="size", bounded=True)
def size_of(xp: Any, x: Array) -> Array:
    """Return the number of elements."""
    return np.asarray(math.prod(x.shape), np.int64)


@op("ConstantOfShape", static=[0])
def constant_of_shape(xp: Any, shape: Array, *, value: Array | None = None) -> Array:
    """Return an array of one value; it takes no memory until it is used."""
    number = np.zeros((), np.float32) if value is None else np.asarray(value).reshape(())
    return np.broadcast_to(number, require_size(shape, "ConstantOfShape"))


@op("EyeLike", kind="size")
def eye_like(xp: Any, x: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    """Return ones on the k-th diagonal of a matrix with the shape of x."""
    rows, columns = require_size(x.shape, "EyeLike")
    kind = x.dtype if dtype is None else onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return np.eye(rows, columns, k, dtype=kind)


@op("Range", static=[0, 1, 2])
def range_(xp: Any, start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Array:
    """Return the numbers from `start` to before `limit`, in steps of `delta`."""
    first, last, step = (np.asarray(v).reshape(()) for v in (start, limit, delta))
    if step == 0:
        raise UnsupportedModelError("Range has a step of 0 and would never end; check the model")
    if first.dtype.kind in "iu":
        count = -(-(int(last) - int(first)) // int(step))
    else:
        exact = (float(last) - float(first)) / float(step)
        count = math.ceil(exact) if math.isfinite(exact) else 2**62
    (count,) = require_size([max(count, 0)], "Range")
    wide = np.float64 if first.dtype.kind not in "iu" else first.dtype
    return (first.astype(wide) + np.arange(count).astype(wide) * step.astype(wide)).astype(
        first.dtype
    )


@op("Split", since=13, static=[1], kind="slice", homogeneous=True, bounded=True)
def split_13(
    xp: Any,
    x: Array,
    split: Array | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    n_outputs: int,
) -> tuple[Array, ...]:
    """Split along an axis, evenly unless the sizes are given."""
    if split is not None:
        return _cut(xp, x, to_ints(split), axis)
    parts = n_outputs if num_outputs is None else num_outputs
    whole = -(-x.shape[axis] // parts)
    return _cut(xp, x, (*[whole] * (parts - 1), x.shape[axis] - whole * (parts - 1)), axis)


@op("Split")
def split_2(
    xp: Any,
    x: Array,
    sizes: Array | None = None,
    *,
    axis: int = 0,
    split: Sequence[int] | None = None,
    n_outputs: int,
) -> tuple[Array, ...]:
    """Split, with the sizes as an attribute, or in opset 1 as an input."""
    given = sizes if split is None else np.asarray(split)
    return split_13(xp, x, given, axis=axis, n_outputs=n_outputs)


def _cut(xp: Any, x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    (axis,) = normal_axes([axis], x.ndim)
    if min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise UnsupportedModelError(
            f"Split cannot cut an axis of size {x.shape[axis]} into {list(sizes)}; check the model"
        )
    before = (slice(None),) * axis
    ends = np.cumsum(sizes)
    return tuple(x[(*before, slice(int(e - n), int(e)))] for n, e in zip(sizes, ends, strict=True))


@op("OneHot", static=[1], differentiable=False)
def one_hot(xp: Any, indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """Return values[1] where the new axis equals the index, and values[0] elsewhere."""
    count = to_int(depth)
    require_size([*indices.shape, count], "OneHot")
    (axis,) = normal_axes([axis], len(indices.shape) + 1)
    positions = np.arange(count).reshape(count, *(1,) * (len(indices.shape) - axis))
    index = xp.expand_dims(xp.where(indices < 0, indices + count, indices), axis)
    return xp.where(index == positions, values[1], values[0])
