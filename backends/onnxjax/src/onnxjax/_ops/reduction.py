"""Reductions over axes, cumulative sums and products, and the indices of extremes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp
from onnxjax._ops.common import cast, to_int, to_ints
from onnxjax._ops.elementwise import absolute
from onnxjax.registry import op

Array = Any
Reduction = Callable[[Any, Array, tuple[int, ...], bool], Array]


def _sum(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return xp.sum(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _prod(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return xp.prod(x, axis=axes, keepdims=keep, dtype=x.dtype)


def _mean(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return cast(xp, xp.mean(x, axis=axes, keepdims=keep), x.dtype)


def _max(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return xp.max(x, axis=axes, keepdims=keep, **_start(x, lowest=True))


def _min(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return xp.min(x, axis=axes, keepdims=keep, **_start(x, lowest=False))


def _start(x: Array, *, lowest: bool) -> dict[str, Any]:
    """Return the initial value of an extreme, which only an empty array needs."""
    if x.size:
        return {}
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        return {"initial": limits.min if lowest else limits.max}
    bound = not lowest if x.dtype == bool else float("-inf" if lowest else "inf")
    return {"initial": bound}


def _l1(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return _sum(xp, absolute(xp, x), axes, keep)


def _l2(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    """Return the Euclidean norm, with slope 0 at the origin."""
    squares = _sum_square(xp, x, axes, keep)
    nonzero = squares != 0
    root = xp.sqrt(xp.where(nonzero, squares, xp.ones_like(squares)))
    return cast(xp, xp.where(nonzero, root, xp.zeros_like(root)), x.dtype)


def _sum_square(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return _sum(xp, x * x, axes, keep)


def _log_sum(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return cast(xp, xp.log(_sum(xp, x, axes, keep)), x.dtype)


def _log_sum_exp(xp: Any, x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    if not x.size:
        return _log_sum(xp, xp.exp(x), axes, keep)
    result = jax.nn.logsumexp(jnp.asarray(x), axis=axes, keepdims=keep)
    return cast(jnp, result, x.dtype)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceL1": _l1,
    "ReduceL2": _l2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _max,
    "ReduceMean": _mean,
    "ReduceMin": _min,
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_square,
}


HOMOGENEOUS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"}
)
"""Reductions f with f(c x) = c f(x) for every c > 0."""


def _register(name: str, reduction: Reduction) -> None:
    """Register a reduction with its axes as an attribute and, in later opsets, as an input."""

    @op(name, kind="reduce", homogeneous=name in HOMOGENEOUS, bounded=True)
    def by_attribute(
        xp: Any, x: Array, *, axes: Sequence[int] | None = None, keepdims: int = 1
    ) -> Array:
        return reduction(xp, x, to_ints(axes or range(x.ndim)), bool(keepdims))

    @op(name, since=13 if name == "ReduceSum" else 18, static=[1])
    def by_input(
        xp: Any,
        x: Array,
        axes: Array | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Array:
        chosen = () if axes is None else to_ints(axes)
        everything = () if noop_with_empty_axes else tuple(range(x.ndim))
        return reduction(xp, x, chosen or everything, bool(keepdims))


for _name, _reduction in REDUCTIONS.items():
    _register(_name, _reduction)


@op("ArgMax", kind="reduce", differentiable=False)
def arg_max(
    xp: Any, x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Array:
    """Return the index of the largest value along an axis."""
    return _arg(xp, xp.argmax, x, axis, bool(keepdims), bool(select_last_index))


@op("ArgMin", kind="reduce", differentiable=False)
def arg_min(
    xp: Any, x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
) -> Array:
    """Return the index of the smallest value along an axis."""
    return _arg(xp, xp.argmin, x, axis, bool(keepdims), bool(select_last_index))


def _arg(
    xp: Any, find: Callable[..., Array], x: Array, axis: int, keepdims: bool, last: bool
) -> Array:
    if last:
        found = x.shape[axis] - 1 - find(xp.flip(x, axis), axis=axis, keepdims=keepdims)
    else:
        found = find(x, axis=axis, keepdims=keepdims)
    return cast(xp, found, np.int64)


@op("CumSum", static=[1], homogeneous=True)
def cum_sum(xp: Any, x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Return the cumulative sum along an axis."""
    return _running(xp, xp.cumsum, 0, x, to_int(axis), bool(exclusive), bool(reverse))


@op("CumProd", static=[1])
def cum_prod(xp: Any, x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Return the cumulative product along an axis."""
    return _running(xp, xp.cumprod, 1, x, to_int(axis), bool(exclusive), bool(reverse))


def _running(
    xp: Any,
    accumulate: Callable[..., Array],
    start: int,
    x: Array,
    axis: int,
    exclusive: bool,
    reverse: bool,
) -> Array:
    """Accumulate along an axis; with `exclusive`, a result excludes its own element."""
    x = xp.flip(x, axis) if reverse else x
    if exclusive:
        first = xp.full_like(xp.take(x, np.arange(min(1, x.shape[axis])), axis=axis), start)
        shifted = xp.take(x, np.arange(max(x.shape[axis] - 1, 0)), axis=axis)
        x = xp.concatenate([first, shifted], axis=axis)
    result = accumulate(x, axis=axis, dtype=x.dtype)
    return xp.flip(result, axis) if reverse else result
