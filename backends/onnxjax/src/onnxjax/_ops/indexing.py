"""Operators that read and write by index, and those that sort."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxjax._arrays import is_static
from onnxjax._jax import jax, jnp
from onnxjax._ops.common import cast, require_size, to_int
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any

UPDATES = {
    "none": ("set", None),
    "add": ("add", np.add),
    "mul": ("multiply", np.multiply),
    "max": ("max", np.maximum),
    "min": ("min", np.minimum),
}
"""For each ONNX reduction of a scatter, JAX's method and numpy's function."""


@op("Gather", kind="slice", homogeneous=True, bounded=True)
def gather(xp: Any, x: Array, indices: Array, *, axis: int = 0) -> Array:
    """Return slices of x along an axis, by their indices."""
    return xp.take(x, indices, axis=axis)


@op("GatherElements", kind="slice", homogeneous=True)
def gather_elements(xp: Any, x: Array, indices: Array, *, axis: int = 0) -> Array:
    """Return one element for each index; the index replaces its own position on the axis."""
    return xp.asarray(x)[_positions(indices, axis)]


@op("GatherND", kind="slice", homogeneous=True)
def gather_nd(xp: Any, x: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """Return the slices that the last axis of `indices` addresses, batch by batch."""
    rank = len(indices.shape) - 1
    batch = tuple(
        np.arange(indices.shape[i]).reshape(-1, *(1,) * (rank - 1 - i)) for i in range(batch_dims)
    )
    return xp.asarray(x)[(*batch, *(indices[..., i] for i in range(indices.shape[-1])))]


def _positions(indices: Array, axis: int) -> tuple[Array, ...]:
    """Return full addresses for indices along one axis."""
    rank = len(indices.shape)
    positions = [
        np.arange(size).reshape(-1, *(1,) * (rank - 1 - i)) for i, size in enumerate(indices.shape)
    ]
    positions[axis] = indices
    return tuple(positions)


@op("ScatterElements", "Scatter")
def scatter_elements(
    xp: Any, x: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none"
) -> Array:
    """Update x at each index; the index replaces its own position on the axis."""
    return _update(xp, x, _positions(indices, axis), updates, reduction)


@op("ScatterND")
def scatter_nd(
    xp: Any, x: Array, indices: Array, updates: Array, *, reduction: str = "none"
) -> Array:
    """Update x at each slice that the last axis of `indices` addresses."""
    at = tuple(indices[..., i] for i in range(indices.shape[-1]))
    return _update(xp, x, at, updates, reduction)


def _update(xp: Any, x: Array, at: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    if reduction not in UPDATES:
        raise UnsupportedModelError(f"no scatter by {reduction!r}; there is {', '.join(UPDATES)}")
    method, function = UPDATES[reduction]
    if xp is not np:
        unique = reduction == "mul" and _all_different(at)  # else JAX has no derivative
        return getattr(jnp.asarray(x).at[at], method)(updates, unique_indices=unique)
    result = np.array(x)
    if function is None:
        result[at] = updates
    else:
        function.at(result, at, updates)
    return result


def _all_different(at: tuple[Array, ...]) -> bool:
    """Return whether the positions are static and no position is addressed twice."""
    if not all(map(is_static, at)):
        return False
    positions = np.stack([np.ravel(index) for index in np.broadcast_arrays(*at)])
    return bool(np.unique(positions, axis=1).shape == positions.shape)


@op("TopK", since=11, kind="slice", static=[1], homogeneous=True)
def top_k_11(
    xp: Any, x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Array, Array]:
    """Return the k largest or smallest along an axis, and their indices; ties keep their order."""
    count = min(to_int(k), x.shape[axis])
    require_size([count], "TopK")
    if xp is jnp and largest:
        values, order = jax.lax.top_k(jnp.moveaxis(x, axis, -1), count)
        return jnp.moveaxis(values, -1, axis), cast(xp, jnp.moveaxis(order, -1, axis), np.int64)
    order = xp.take(_order(xp, x, axis, descending=bool(largest)), np.arange(count), axis=axis)
    return xp.take_along_axis(x, order, axis=axis), cast(xp, order, np.int64)


def _order(xp: Any, x: Array, axis: int, *, descending: bool) -> Array:
    if not descending:
        return xp.argsort(x, axis=axis, stable=True)
    # reversed twice, so that equal values keep their order
    backwards = xp.argsort(xp.flip(x, axis), axis=axis, stable=True)
    return x.shape[axis] - 1 - xp.flip(backwards, axis)


@op("TopK", since=10, kind="slice", static=[1])
def top_k_10(xp: Any, x: Array, k: Array, *, axis: int = -1) -> tuple[Array, Array]:
    """Return the k largest along an axis, and their indices."""
    return top_k_11(xp, x, k, axis=axis)


@op("TopK", kind="slice")
def top_k_1(xp: Any, x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    """Return the k largest along an axis, and their indices."""
    return top_k_11(xp, x, np.asarray(k), axis=axis)
