"""Poolings, computed one axis after the other, because maxima and sums over boxes are separable.

If several elements share a maximum, its whole gradient goes to the first of them in row-major
order, as in PyTorch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxjax._jax import custom_jvp, jnp
from onnxjax._ops.channels import elementwise, over_positions
from onnxjax._ops.windows import Ints, Window, pooling_windows, spatial_rank
from onnxjax.registry import op

Array = Any


@op("MaxPool", kind="max_pool", homogeneous=True, planar=True)
def max_pool(
    xp: Any,
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    pads: Ints = None,
    storage_order: int = 0,
    strides: Ints = None,
    n_outputs: int = 1,
) -> Array | tuple[Array, Array]:
    """Return the maximum of each window, and on request its index in the flattened input."""
    x = jnp.asarray(x)
    windows = pooling_windows(
        x.shape[2:],
        kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        pads=pads,
        strides=strides,
    )
    y = max_of(x, windows)
    return y if n_outputs == 1 else (y, _indices(x, windows, storage_order))


def max_of(x: Array, windows: Sequence[Window]) -> Array:
    """Return the maxima over windows on the axes after batch and channels."""

    def maxima(x: Array, first: int) -> Array:
        for axis, window in reversed(list(enumerate(windows, first))):
            x = _axis_max(x, axis, window)
        return x

    return over_positions(maxima, x)


def _axis_max_jvp(
    axis: int, window: Window, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y, number = _first_max(window.parts(x, axis, _lowest(x.dtype)))
    return y, _select(number, window.parts(dx, axis, 0))


@custom_jvp(_axis_max_jvp, nondiff_argnums=(1, 2))
def _axis_max(x: Array, axis: int, window: Window) -> Array:
    return functools.reduce(jnp.maximum, window.parts(x, axis, _lowest(x.dtype)))


def _first_max(parts: Any) -> tuple[Array, Array]:
    """Return the elementwise maximum of the parts, and the index of the first part with it."""
    (_, best), *others = enumerate(parts)
    number = jnp.zeros(best.shape, jnp.int32)
    for i, part in others:
        better = (part > best) | jnp.isnan(part)
        best, number = jnp.where(better, part, best), jnp.where(better, i, number)
    return best, number


def _select(number: Array, parts: Any) -> Array:
    """Return each element from the part with that index."""
    return functools.reduce(
        jnp.add, (jnp.where(number == i, part, 0) for i, part in enumerate(parts))
    )


def _lowest(dtype: Any) -> Any:
    return -np.inf if jnp.issubdtype(dtype, jnp.inexact) else jnp.iinfo(dtype).min


def _indices(x: Array, windows: Sequence[Window], column_major: int) -> Array:
    """Return the index of each maximum in the flattened input."""
    spatial = x.shape[2:]
    flat = np.arange(math.prod(spatial)).reshape(spatial, order="F" if column_major else "C")
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *(1,) * len(spatial))
    indices = jnp.asarray(planes * flat.size + flat, jnp.result_type(int))
    for axis, window in reversed(list(enumerate(windows, 2))):
        x, chosen = _first_max(window.parts(x, axis, _lowest(x.dtype)))
        indices = _select(chosen, window.parts(indices, axis, 0))
    return indices


@op("AveragePool", kind="average_pool", homogeneous=True, planar=True)
def average_pool(
    xp: Any,
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Return the mean of each window, with or without its padding."""
    x = jnp.asarray(x)
    windows = pooling_windows(
        x.shape[2:],
        kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        pads=pads,
        strides=strides,
    )
    total = sum_of(x.astype(_wide(x.dtype)), windows)
    counts = window_counts(windows, include_pad=bool(count_include_pad))
    mean = elementwise(jnp.divide)(total, jnp.asarray(counts, total.dtype))
    return mean.astype(x.dtype)


def sum_of(x: Array, windows: Sequence[Window]) -> Array:
    """Return the sums over windows on the axes after batch and channels."""

    def sums(x: Array, first: int) -> Array:
        for axis, window in reversed(list(enumerate(windows, first))):
            x = functools.reduce(jnp.add, window.parts(x, axis, 0))
        return x

    return over_positions(sums, x)


def _wide(dtype: Any) -> Any:
    """Return the type of sums: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)


def window_counts(windows: Sequence[Window], *, include_pad: bool) -> Array:
    """Return the number of elements by which the sum of each window is divided."""
    each = [_axis_counts(window, include_pad) for window in windows]
    return functools.reduce(np.multiply.outer, each)


def _axis_counts(window: Window, include_pad: bool) -> Array:
    starts = np.arange(window.count) * window.stride - window.before
    at = starts[:, None] + np.arange(window.kernel) * window.dilation
    low, high = (-window.before, window.size + window.after) if include_pad else (0, window.size)
    return np.maximum(((at >= low) & (at < high)).sum(1), 1)


@op("LpPool", since=2, kind="pool", homogeneous=True, planar=True)
def lp_pool(
    xp: Any,
    x: Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    p: int = 2,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Return the p-norm of each window."""
    x = jnp.asarray(x)
    windows = pooling_windows(
        x.shape[2:],
        kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        pads=pads,
        strides=strides,
    )
    return _root(sum_of(_power(x, p), windows), p).astype(x.dtype)


def _power(x: Array, p: float) -> Array:
    wide = x.astype(_wide(x.dtype))
    return wide * wide if p == 2 else jnp.abs(wide) ** p


def _root(total: Array, p: float) -> Array:
    """Return the p-th root, with slope 0 at 0 as in PyTorch's norms."""
    positive = total > 0
    safe = jnp.where(positive, total, 1)
    return jnp.where(positive, jnp.sqrt(safe) if p == 2 else safe ** (1 / p), total)


@op(
    "GlobalAveragePool",
    kind="global_average_pool",
    homogeneous=True,
    planar=True,
    integer=("com.microsoft", "QLinearGlobalAveragePool"),
)
def global_average_pool(xp: Any, x: Array) -> Array:
    """Return the mean over all spatial positions, with axes of size 1."""
    return xp.mean(x, axis=_spatial_axes(x), keepdims=True)


@op("GlobalMaxPool", kind="global_max_pool", homogeneous=True, planar=True)
def global_max_pool(xp: Any, x: Array) -> Array:
    """Return the maximum over all spatial positions, with axes of size 1."""
    flat = jnp.reshape(x, (*x.shape[:2], -1))
    first = jnp.argmax(flat, axis=2, keepdims=True)
    y = jnp.take_along_axis(flat, first, axis=2)
    return y.reshape(*x.shape[:2], *(1,) * spatial_rank(x))


@op("GlobalLpPool", since=2, kind="pool", homogeneous=True, planar=True)
def global_lp_pool(xp: Any, x: Array, *, p: int = 2) -> Array:
    """Return the p-norm over all spatial positions, with axes of size 1."""
    x = jnp.asarray(x)
    total = jnp.sum(_power(x, p), axis=_spatial_axes(x), keepdims=True)
    return _root(total, p).astype(x.dtype)


def _spatial_axes(x: Array) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


@op("MaxUnpool", static=(2,), homogeneous=True, planar=True)
def max_unpool(
    xp: Any,
    x: Array,
    indices: Array,
    output_shape: Array | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Put each maximum at its index, among zeros."""
    rank = spatial_rank(x)
    strides, pads = strides or (1,) * rank, pads or (0,) * 2 * rank
    inner = [
        (n - 1) * s + k - lo - hi
        for n, s, k, lo, hi in zip(
            x.shape[2:], strides, kernel_shape, pads[:rank], pads[rank:], strict=True
        )
    ]
    inner = [*x.shape[:2], *inner]
    flat = jnp.zeros(math.prod(inner), x.dtype)
    at = jnp.asarray(indices, jnp.result_type(int)).reshape(-1)
    y = flat.at[at].set(jnp.reshape(x, -1), mode="drop").reshape(inner)
    if output_shape is None:
        return y
    wanted = [int(n) for n in output_shape]
    y = y[tuple(slice(n) for n in wanted)]
    return jnp.pad(y, [(0, n - m) for n, m in zip(wanted, y.shape, strict=True)])
