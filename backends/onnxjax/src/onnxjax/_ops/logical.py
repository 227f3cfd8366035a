"""Selection by conditions, and searches for elements that fulfil one."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxjax._ops.common import to_int
from onnxjax.registry import op

Array = Any


@op("Where", kind="select", bounded=True)
def where(xp: Any, condition: Array, x: Array, y: Array) -> Array:
    """Return elements of x where the condition holds, and of y elsewhere."""
    return xp.where(condition, x, y)


@op("NonZero", static=[0], differentiable=False)
def non_zero(xp: Any, x: Array) -> Array:
    """Return the indices of nonzero elements, one column for each."""
    return np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64)


@op("Compress", static=[1], kind="slice", homogeneous=True)
def compress(xp: Any, x: Array, condition: Array, *, axis: int | None = None) -> Array:
    """Return the slices along an axis, or the elements, for which the condition holds."""
    if axis is None:
        x, axis = xp.reshape(x, (-1,)), 0
    return xp.take(x, np.flatnonzero(condition), axis=axis)


@op("Unique", static=[0])
def unique(
    xp: Any, x: Array, *, axis: int | None = None, sorted: int = 1, n_outputs: int
) -> tuple[Array, ...]:
    """Return the unique values, their first indices, the inverse indices, and the counts."""
    flat = np.reshape(x, (-1,)) if axis is None else x
    along = 0 if axis is None else axis
    _, first, inverse, counts = np.unique(
        flat, return_index=True, return_inverse=True, return_counts=True, axis=along
    )
    order = np.arange(len(first)) if sorted else np.argsort(first)
    rank = np.argsort(order)
    found = np.take(flat, first[order], axis=along)
    results = (found, first[order], rank[inverse.reshape(-1)], counts[order])
    return tuple(np.asarray(r) for r in results)[:n_outputs]


@op("Trilu", static=[1], kind="select", homogeneous=True)
def trilu(xp: Any, x: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    """Set each matrix to zero below, or above, its k-th diagonal."""
    offset = 0 if k is None else to_int(k)
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None, :]
    kept = columns - rows >= offset if upper else columns - rows <= offset
    return xp.where(kept, x, xp.zeros_like(x))
