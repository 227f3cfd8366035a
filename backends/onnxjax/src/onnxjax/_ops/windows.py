"""The arithmetic of pads, strides and dilations for convolutions and poolings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onnxjax._jax import jnp, lax

Array = Any
Ints = Sequence[int] | None
Pads = list[tuple[int, int]]


def spatial_rank(x: Array) -> int:
    """Return the number of axes after batch and channels."""
    return len(x.shape) - 2


def window_pads(
    auto_pad: str,
    pads: Ints,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pads:
    """Return the padding before and after each spatial axis, by ONNX's `auto_pad`."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return [
            _same(size, (k - 1) * d + 1, s, upper=auto_pad == "SAME_UPPER")
            for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
    if auto_pad == "VALID" or not pads:
        return [(0, 0)] * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))


def _same(size: int, extent: int, stride: int, *, upper: bool) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


@dataclass(frozen=True)
class Window:
    """The windows along one axis.

    Attributes:
        size: the length of the axis.
        kernel: the number of elements of a window.
        stride: the distance from one window to the next.
        dilation: the distance from one element of a window to the next.
        before: the padding before the axis.
        after: the padding after the axis in the model; ceil mode may extend it.
        count: the number of windows.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    count: int

    @property
    def reach(self) -> int:
        """The padding after the axis that the last window needs."""
        last = (self.count - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        return max(last - self.size - self.before, 0)

    def pad(self, x: Array, axis: int, fill: Any) -> Array:
        """Return the array padded with `fill`, so that the axis covers all windows."""
        widths = [(0, 0, 0)] * x.ndim
        widths[axis] = (self.before, self.reach, 0)
        return lax.pad(x, jnp.asarray(fill, x.dtype), widths)

    def parts(self, x: Array, axis: int, fill: Any) -> Iterator[Array]:
        """Yield the first, second, ... element of every window."""
        padded = self.pad(x, axis, fill)
        for start in range(0, self.kernel * self.dilation, self.dilation):
            stop = start + (self.count - 1) * self.stride + 1
            yield lax.slice_in_dim(padded, start, stop, self.stride, axis)


def pooling_windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> tuple[Window, ...]:
    """Return the windows along each spatial axis, from a pooling's attributes."""
    ones = (1,) * len(sizes)
    strides, dilations = strides or ones, dilations or ones
    padding = window_pads(auto_pad, pads, sizes, kernel, strides, dilations)
    up = bool(ceil_mode) and auto_pad == "NOTSET"
    return tuple(
        Window(
            size, k, s, d, before, after, _count(size + before, after, (k - 1) * d + 1, s, up=up)
        )
        for size, k, s, d, (before, after) in zip(
            sizes, kernel, strides, dilations, padding, strict=True
        )
    )


def _count(size: int, after: int, extent: int, stride: int, *, up: bool) -> int:
    """Return how many windows fit, possibly rounded up; none may start after the data."""
    room = size + after - extent
    if not up:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size else count


def window_shifts(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
    axis: int = 2,
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield each position in the kernel, and the elements of x that it multiplies."""
    end = axis + len(kernel)
    after = x.ndim - end
    padded = jnp.pad(x, [(0, 0)] * axis + [*pads] + [(0, 0)] * after)
    sizes = padded.shape[axis:end]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [(size - e) // s + 1 for size, e, s in zip(sizes, extents, strides, strict=True)]
    for at in itertools.product(*map(range, kernel)):
        starts = [i * d for i, d in zip(at, dilations, strict=True)]
        stops = [b + (n - 1) * s + 1 for b, n, s in zip(starts, counts, strides, strict=True)]
        begins = (*(0,) * axis, *starts, *(0,) * after)
        ends = (*x.shape[:axis], *stops, *x.shape[end:])
        steps = (*(1,) * axis, *strides, *(1,) * after)
        yield at, lax.slice(padded, begins, ends, steps)


def patches(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    dilations: Sequence[int],
) -> Array:
    """Return the window at each position as channels (*kernel, C), one axis after the other.

    Args:
        x: `(N, *spatial, C)`.
        kernel: the windows' sizes.
        strides: the distances between windows.
        pads: of zeros, before and after each axis.
        dilations: the distances within a window.
    """
    windows = [*zip(kernel, strides, pads, dilations, strict=True)]
    for axis, (size, stride, pad, dilation) in reversed([*enumerate(windows, start=1)]):
        parts = window_shifts(x, [size], [stride], [pad], [dilation], axis)
        x = jnp.concatenate([part for _, part in parts], axis=-1)
    return x
