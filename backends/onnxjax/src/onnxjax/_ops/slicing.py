"""Slices of arrays, and padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxjax._ops.common import normal_axes, require_size, to_ints
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@op("Slice", since=10, static=[1, 2, 3, 4], kind="slice", homogeneous=True, bounded=True)
def slice_10(
    xp: Any,
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """Return the slice from `starts` to before `ends` along some axes, clipped to their sizes."""
    firsts, lasts = to_ints(starts), to_ints(ends)
    chosen = to_ints(range(len(firsts)) if axes is None else axes)
    strides = (1,) * len(firsts) if steps is None else to_ints(steps)
    taken = [slice(None)] * x.ndim
    for axis, first, last, step in zip(
        normal_axes(chosen, x.ndim), firsts, lasts, strides, strict=True
    ):
        taken[axis] = _within(x.shape[axis], first, last, step)
    return x[tuple(taken)]


@op("Slice")
def slice_1(
    xp: Any,
    x: Array,
    *,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
) -> Array:
    """Return a slice with the bounds as attributes, in steps of 1."""
    return slice_10(xp, x, starts, ends, axes)


def _within(size: int, first: int, last: int, step: int) -> slice:
    """Return the same slice with small numbers; ONNX writes "to the end" as the largest int64."""
    start, stop, step = slice(first, last, step).indices(size)
    return slice(start, None if stop < 0 else stop, step)


@op("Pad", since=11, static=[1, 3], kind="pad", linear=True)
def pad_11(
    xp: Any,
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    """Pad before and after some axes; a negative pad crops."""
    widths = _widths(to_ints(pads), x.ndim, None if axes is None else to_ints(axes))
    x = _crop(x, widths)
    grown = [(max(low, 0), max(high, 0)) for low, high in widths]
    sizes = [n + sum(w) for n, w in zip(x.shape, grown, strict=True)]
    require_size([n for n in sizes if isinstance(n, int)], "Pad")  # unknown ones are of exports
    if mode not in PAD_MODES:
        raise UnsupportedModelError(f"Pad knows no mode {mode!r}; it knows {list(PAD_MODES)}")
    if mode != "constant":
        return xp.pad(x, grown, mode=PAD_MODES[mode])
    border = xp.zeros((), x.dtype) if value is None else xp.asarray(value, dtype=x.dtype)
    return xp.pad(x, grown, constant_values=border.reshape(()))


@op("Pad", since=2)
def pad_2(
    xp: Any, x: Array, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0
) -> Array:
    """Pad, with the pads as attributes."""
    return pad_11(xp, x, pads, value, mode=mode)


def _widths(pads: Sequence[int], rank: int, axes: Sequence[int] | None) -> list[tuple[int, int]]:
    """Return (before, after) for every axis, from all the befores and then all the afters."""
    chosen = normal_axes(range(rank) if axes is None else axes, rank)
    half = len(pads) // 2
    given = dict(zip(chosen, zip(pads[:half], pads[half:], strict=True), strict=True))
    return [given.get(axis, (0, 0)) for axis in range(rank)]


def _crop(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    return x[tuple(slice(max(-low, 0), high if high < 0 else None) for low, high in widths)]
