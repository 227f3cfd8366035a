"""Primitives that arrange elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps_onnx.export import _namespace
from xaimaps_onnx.export._primitives.equations import Spread
from xaimaps_onnx.export._primitives.rows import primitive
from xaimaps_onnx.export._traced import Recorder, Traced, ints


def reshaped(write: Recorder, x: Any, shape: Any) -> Any:
    """Return x in another shape."""
    return x if x.shape == tuple(shape) else _namespace.reshape(write.constant(x), shape)


def transposed(write: Recorder, x: Any, order: Any) -> Any:
    """Return x with its axes in another order."""
    if list(order) == list(range(len(x.shape))):
        return x
    return write.emit("Transpose", [x], perm=list(order))


@primitive("reshape")
def reshape(write: Recorder, equation: Any, x: Any) -> Any:
    """Reshape, after a permutation if there is one."""
    order = equation.params["dimensions"]
    x = x if order is None else transposed(write, x, order)
    return reshaped(write, x, equation.params["new_sizes"])


@primitive("squeeze", "expand_dims")
def squeeze(write: Recorder, equation: Any, x: Any) -> Any:
    """Remove or add axes of size 1."""
    return reshaped(write, x, equation.outvars[0].aval.shape)


@primitive("transpose")
def transpose(write: Recorder, equation: Any, x: Any) -> Any:
    """Permute the axes."""
    return transposed(write, x, equation.params["permutation"])


@primitive("broadcast_in_dim")
def broadcast_in_dim(write: Recorder, equation: Any, x: Any) -> Any:
    """Repeat along new axes, and along axes of size 1."""
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    whole = [1] * len(shape)
    for axis, size in zip(axes, x.shape, strict=True):
        whole[axis] = size
    if isinstance(x, np.ndarray):
        return Spread(x.reshape(whole if x.ndim else ()), shape)
    spread = reshaped(write, x, whole)
    return spread if tuple(whole) == tuple(shape) else Spread(spread, shape)


@primitive("rev")
def rev(write: Recorder, equation: Any, x: Any) -> Any:
    """Reverse axes."""
    axes = equation.params["dimensions"]
    ends = [-x.shape[axis] - 1 for axis in axes]
    steps = [-1] * len(axes)
    return write.emit("Slice", [x, ints(*steps), ints(*ends), ints(*axes), ints(*steps)])


@primitive("slice")
def slice_(write: Recorder, equation: Any, x: Any) -> Any:
    """Take a range of each axis; axes that are taken whole are left out."""
    starts, stops = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(starts)
    parts = [
        (start, stop, axis, step)
        for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True))
        if (start, stop, step) != (0, x.shape[axis], 1)
    ]
    return (
        write.emit("Slice", [x, *(ints(*each) for each in zip(*parts, strict=True))])
        if parts
        else x
    )


@primitive("concatenate")
def concatenate(write: Recorder, equation: Any, *parts: Any) -> Any:
    """Join along an axis."""
    return write.emit("Concat", parts, axis=equation.params["dimension"])


@primitive("split")
def split(write: Recorder, equation: Any, x: Any) -> Any:
    """Divide along an axis."""
    axis, stops = equation.params["axis"], np.cumsum(equation.params["sizes"])
    starts = [0, *stops[:-1]]
    return tuple(
        write.emit("Slice", [x, ints(start), ints(stop), ints(axis)])
        for start, stop in zip(starts, stops, strict=True)
    )


@primitive("pad")
def pad(write: Recorder, equation: Any, x: Any, value: Any) -> Any:
    """Add borders, which may be negative, and gaps between elements."""
    return padded(write, x, value, equation.params["padding_config"])


def padded(write: Recorder, x: Any, value: Any, config: Any) -> Any:
    """Return x with a border before, a border after, and a gap, for each axis."""
    for axis, edges in enumerate(config):
        if edges[2] and axis >= len(x.shape) - 2 and _is_zero(value):
            x = _spread_by_product(write, x, axis, edges)
        elif edges[2]:
            x = _bordered(write, _spread(write, x, value, axis, edges[2]), value, axis, edges)
    left = [(0, 0) if gap else (low, high) for low, high, gap in config]
    for axis, (low, high) in enumerate(left):
        x = _cropped(write, x, axis, max(-low, 0), max(-high, 0))
    borders = [max(low, 0) for low, _ in left] + [max(high, 0) for _, high in left]
    return write.emit("Pad", [x, ints(*borders), value]) if any(borders) else x


def _is_zero(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and not value.any()


def _spread_by_product(write: Recorder, x: Any, axis: int, edges: Any) -> Any:
    """Put zeros around and between elements by a matrix product, faster than Pad in ONNX Runtime.

    Pad copies the elements of the last axis one by one.
    """
    low, high, gap = edges
    count = x.shape[axis]
    places = np.arange(count) * (gap + 1) + low
    size = max(count - 1, 0) * (gap + 1) + min(count, 1) + low + high
    matrix = np.equal(places[:, None], np.arange(size)).astype(np.float32)
    is_last = axis == len(x.shape) - 1
    return write.emit("MatMul", [x, matrix] if is_last else [matrix.T.copy(), x])


def _bordered(write: Recorder, x: Any, value: Any, axis: int, edges: Any) -> Any:
    """Pad or crop one axis."""
    config = [(0, 0, 0)] * len(x.shape)
    config[axis] = (*edges[:2], 0)
    return padded(write, x, value, config)


def _spread(write: Recorder, x: Any, value: Any, axis: int, gap: int) -> Any:
    """Put gaps between the elements of an axis: pad an axis behind it, and join both."""
    *before, size = x.shape[: axis + 1]
    apart = reshaped(write, x, (*before, size, 1, *x.shape[axis + 1 :]))
    rank, place = len(apart.shape), axis + 1
    borders = [0] * (rank + place) + [gap] + [0] * (rank - place - 1)
    filled = write.emit("Pad", [apart, ints(*borders), value])
    joined = reshaped(write, filled, (*before, size * (gap + 1), *x.shape[axis + 1 :]))
    return _cropped(write, joined, axis, 0, gap)


def _cropped(write: Recorder, x: Any, axis: int, before: int, after: int) -> Any:
    if not before and not after:
        return x
    stop = x.shape[axis] - after
    return write.emit("Slice", [x, ints(before), ints(stop), ints(axis)])


@primitive("iota")
def iota(write: Recorder, equation: Any) -> Any:
    """Count along an axis, which may be the batch."""
    dtype, shape = np.dtype(equation.params["dtype"]), equation.params["shape"]
    axis = equation.params["dimension"]
    numbers = _namespace.RULES["astype"](counted(write, shape[axis]), dtype)
    spread = reshaped(write, numbers, [n if i == axis else 1 for i, n in enumerate(shape)])
    return Spread(spread, shape)


def counted(write: Recorder, count: int) -> Traced:
    """Return 0, 1, 2 ..., as many as an axis has elements."""
    stop = write.emit("Squeeze", [write.sizes((count,)), ints(0)])
    numbers = write.emit("Range", [np.int64(0), stop, np.int64(1)])
    return Traced(numbers.recorder, numbers.name, (count,), numbers.dtype)


@primitive("stack")
def stack(write: Recorder, equation: Any, *parts: Any) -> Any:
    """Join along a new axis."""
    axis = equation.params["axis"]
    apart = [reshaped(write, one, (*one.shape[:axis], 1, *one.shape[axis:])) for one in parts]
    return write.emit("Concat", apart, axis=axis)


@primitive("tile")
def tile(write: Recorder, equation: Any, x: Any) -> Any:
    """Repeat along axes."""
    return write.emit("Tile", [x, ints(*equation.params["reps"])])
