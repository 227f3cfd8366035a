"""Primitives that read or write at indices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import helper

from xaimaps_onnx.export._namespace import RULES
from xaimaps_onnx.export._primitives.rows import NoRowError, primitive
from xaimaps_onnx.export._primitives.shapes import counted, reshaped, transposed
from xaimaps_onnx.export._traced import Recorder

SCATTER_ADD = 16
"""The opset from which on ScatterND can add."""


@primitive("gather")
def gather(write: Recorder, equation: Any, x: Any, indices: Any) -> Any:
    """Take the elements, or whole axes, at indices; those out of range are 0 or clipped."""
    p, axes = equation.params, equation.params["dimension_numbers"]
    taken = _require_whole(
        x.shape, p["slice_sizes"], axes.start_index_map, axes.collapsed_slice_dims
    )
    batches = axes.operand_batching_dims
    rest = [axis for axis in range(len(x.shape)) if axis not in (*batches, *taken)]
    x = transposed(write, x, (*batches, *taken, *rest))
    places = _batch_first(write, indices, axes.start_indices_batching_dims)
    sizes = x.shape[len(batches) : len(batches) + len(taken)]
    inside, is_inside = _inside(write, places, sizes, p["mode"].name)
    found = write.emit("GatherND", [x, inside], batch_dims=len(batches))
    if is_inside is not None:
        found = _masked(write, found, is_inside, p["fill_value"])
    shape = equation.outvars[0].aval.shape
    around = _around(axes.offset_dims, axes.start_indices_batching_dims, len(shape))
    return transposed(write, found, np.argsort(around).tolist())


@primitive("scatter-add", "scatter_add")
def scatter_add(write: Recorder, equation: Any, x: Any, indices: Any, updates: Any) -> Any:
    """Add to the elements, or whole axes, at indices; those out of range are dropped."""
    p, axes = equation.params, equation.params["dimension_numbers"]
    stacks, taken = axes.operand_batching_dims, list(axes.scatter_dims_to_operand_dims)
    if sorted(taken) != list(axes.inserted_window_dims):
        raise NoRowError("sums over ranges at indices are not written")
    indices = _with_stacks(write, indices, axes.scatter_indices_batching_dims)
    taken = [*stacks, *taken]
    rest = [axis for axis in range(len(x.shape)) if axis not in taken]
    order = (*taken, *rest)
    x = transposed(write, x, order)
    updates = transposed(write, updates, _around(axes.update_window_dims, (), len(updates.shape)))
    inside, is_inside = _inside(write, indices, x.shape[: len(taken)], p["mode"].name)
    if is_inside is not None:
        updates = _masked(write, updates, is_inside, 0)
    if write.opset < SCATTER_ADD:
        return transposed(write, _added(write, x, inside, updates), np.argsort(order).tolist())
    found = write.emit("ScatterND", [x, inside, updates], reduction="add")
    return transposed(write, found, np.argsort(order).tolist())


def _added(write: Recorder, x: Any, indices: Any, updates: Any) -> Any:
    """Add updates at indices of the first axis, by a product with a matrix of 0 and 1."""
    if indices.shape[-1] != 1:
        raise NoRowError(f"a sum at indices of several axes needs opset {SCATTER_ADD}")
    count, inner = math.prod(indices.shape), x.shape[1:]
    places = reshaped(write, indices, (1, count))
    rows = np.arange(x.shape[0], dtype=places.dtype)[:, None]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype))
    chosen = write.emit("Cast", [write.emit("Equal", [rows, places])], to=kind)
    flat = reshaped(write, updates, (count, math.prod(inner)))
    added = write.emit("MatMul", [chosen, flat])
    return write.emit("Add", [x, reshaped(write, added, x.shape)])


def _with_stacks(write: Recorder, indices: Any, stacks: Any) -> Any:
    """Return indices that also name the place in each stack, as ONNX has no stacks here."""
    shape = (*indices.shape[:-1], 1)
    places = [
        write.emit("Expand", [_counted(write, shape, axis), write.sizes(shape)]) for axis in stacks
    ]
    if not places:
        return indices
    return write.emit(
        "Concat", [*(RULES["astype"](one, indices.dtype) for one in places), indices], axis=-1
    )


def _counted(write: Recorder, shape: Any, axis: int) -> Any:
    """Return 0, 1, 2 ... along one axis of a shape."""
    numbers = counted(write, shape[axis])
    return reshaped(write, numbers, [n if i == axis else 1 for i, n in enumerate(shape)])


def _require_whole(shape: Any, sizes: Any, starts: Any, collapsed: Any) -> list[int]:
    """Return the axes of the indices, or refuse ranges that are neither one element nor all."""
    if sorted(starts) != list(collapsed) or any(
        size != whole and axis not in collapsed and size != 1
        for axis, (size, whole) in enumerate(zip(sizes, shape, strict=True))
    ):
        raise NoRowError("ranges at indices are not written")
    return list(starts)


def _batch_first(write: Recorder, indices: Any, batches: Any) -> Any:
    order = [*batches, *(axis for axis in range(len(indices.shape)) if axis not in batches)]
    return transposed(write, indices, order)


def _around(inner: Any, batches: Any, rank: int) -> list[int]:
    """Return the order of axes with those of the indices first, and of these the batches first."""
    outer = [axis for axis in range(rank) if axis not in inner]
    first = [outer[axis] for axis in batches]
    return [*first, *(axis for axis in outer if axis not in first), *inner]


def _inside(write: Recorder, indices: Any, sizes: Any, mode: str) -> tuple[Any, Any]:
    """Return indices within their axes, and where they are so already if that matters."""
    kept = write.constant(indices)
    if mode == "PROMISE_IN_BOUNDS":
        return RULES["astype"](kept, np.int64), None
    last = np.asarray([size - 1 for size in sizes], indices.dtype)
    zero = np.zeros((), indices.dtype)
    clipped = write.emit("Min", [write.emit("Max", [kept, zero]), last])
    whole = RULES["astype"](clipped, np.int64)
    if mode == "CLIP":
        return whole, None
    same = write.emit("Cast", [write.emit("Equal", [kept, clipped])], to=6)
    every = RULES["min"](same, axis=-1)
    return whole, write.emit("Cast", [every], to=9)


def _masked(write: Recorder, values: Any, is_inside: Any, fill: Any) -> Any:
    """Return values, and a number where the indices are outside."""
    spread = reshaped(
        write, is_inside, (*is_inside.shape, *(1,) * (len(values.shape) - len(is_inside.shape)))
    )
    number = np.asarray(np.nan if fill is None else fill, values.dtype)
    return write.emit("Where", [spread, values, number])
