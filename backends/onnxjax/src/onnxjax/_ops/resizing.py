"""Resizing of images by one matrix for each axis, computed while the graph is traced."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxjax._ops.sampling import cubic
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any
Ints = Sequence[int] | None
Weights = Callable[[Array], Array]


@op("Upsample", kind="resize", homogeneous=True)
def upsample_1(
    xp: Any, x: Array, *, height_scale: float, mode: str = "nearest", width_scale: float
) -> Array:
    """Resize, with scales of the last two axes as attributes."""
    return upsample_9(xp, x, np.array([1, 1, height_scale, width_scale]), mode=mode)


@op("Upsample", since=7)
def upsample_7(xp: Any, x: Array, *, mode: str = "nearest", scales: Sequence[float]) -> Array:
    """Resize, with scales as an attribute."""
    return upsample_9(xp, x, np.array(scales), mode=mode)


@op("Upsample", since=9, static=(1,))
@op("Resize", since=10, static=(1,), kind="resize", homogeneous=True)
def upsample_9(xp: Any, x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Resize by scales, in coordinates of the pixels' corners."""
    return resize(
        xp,
        x,
        scales=scales,
        mode={"bilinear": "linear", "trilinear": "linear"}.get(mode, mode),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


@op("Resize", since=11, static=(1, 2, 3))
def resize(
    xp: Any,
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    antialias: int = 0,
    axes: Ints = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Array:
    """Resize the axes to `sizes`, or by `scales`."""
    axes = [a % x.ndim for a in (range(x.ndim) if axes is None else axes)]
    lengths = [x.shape[a] for a in axes]
    plans = _plans(lengths, roi, scales, sizes, keep_aspect_ratio_policy)
    for axis, plan in zip(axes, plans, strict=True):
        kind = np.dtype(np.float32 if mode == "nearest" else np.float64)
        at = plan.coordinates(coordinate_transformation_mode, kind)
        if not plan.is_identity:
            if mode == "nearest":
                x = xp.take(x, _nearest(at, plan.length, nearest_mode), axis=axis)
            else:
                weights = _kernel(mode, cubic_coeff_a)
                matrix = _matrix(at, plan, weights, bool(antialias), bool(exclude_outside))
                x = _apply(xp, matrix, x, axis)
        if coordinate_transformation_mode == "tf_crop_and_resize":
            x = _extrapolate(xp, x, (at < 0) | (at > plan.length - 1), axis, extrapolation_value)
    return x


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The resizing of one axis: from `length` to `size` elements, by `scale`, within a region."""

    length: int
    size: int
    scale: float
    start: float = 0.0
    stop: float = 1.0

    @property
    def is_identity(self) -> bool:
        return self.size == self.length and (self.scale, self.start, self.stop) == (1, 0, 1)

    def coordinates(self, mode: str, kind: np.dtype[Any]) -> Array:
        """Return the position in the input of each output element.

        Every runtime computes nearest-neighbour positions in float32, and its errors decide which
        element is the nearest. Therefore they are computed in `kind`.
        """
        if mode not in _COORDINATES:
            raise UnsupportedModelError(
                f"Resize has no coordinate mode {mode!r}, only {', '.join(_COORDINATES)}"
            )
        about = dataclasses.replace(self, scale=kind.type(self.scale))
        return _COORDINATES[mode](about, np.arange(self.size, dtype=kind))


def _plans(
    lengths: Sequence[int],
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    policy: str,
) -> list[_Plan]:
    """Return the plan of each resized axis."""
    count = len(lengths)
    whole = [0.0] * count + [1.0] * count
    region = whole if roi is None or not np.size(roi) else np.asarray(roi, np.float64).tolist()
    if sizes is not None and np.size(sizes):
        sizes, factors = _from_sizes(lengths, [int(n) for n in sizes], policy)
    else:
        factors = np.asarray(scales, np.float64).tolist()
        exact = np.asarray(scales, np.float32).astype(np.float64).tolist()
        sizes = [math.floor(n * f) for n, f in zip(lengths, exact, strict=True)]
    return [
        _Plan(*about)
        for about in zip(lengths, sizes, factors, region[:count], region[count:], strict=True)
    ]


def _from_sizes(
    lengths: Sequence[int], sizes: list[int], policy: str
) -> tuple[list[int], list[float]]:
    """Return sizes and scales; the policy may require one scale for all axes."""
    factors = [size / n for size, n in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return sizes, factors
    if policy not in ("not_larger", "not_smaller"):
        raise UnsupportedModelError(f"Resize has no policy {policy!r} for the aspect ratio")
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(factor * n + 0.5) for n in lengths], [factor] * len(lengths)


def _half_pixel(plan: _Plan, at: Array) -> Array:
    return (at + 0.5) / plan.scale - 0.5


def _pytorch_half_pixel(plan: _Plan, at: Array) -> Array:
    return _half_pixel(plan, at) if plan.size > 1 else np.zeros_like(at)


def _half_pixel_symmetric(plan: _Plan, at: Array) -> Array:
    adjustment = plan.size / (plan.scale * plan.length)
    return plan.length / 2 * (1 - adjustment) + _half_pixel(plan, at)


def _asymmetric(plan: _Plan, at: Array) -> Array:
    return at / plan.scale


def _align_corners(plan: _Plan, at: Array) -> Array:
    spread = plan.scale * plan.length - 1
    return at * (plan.length - 1) / spread if spread else np.zeros_like(at)


def _tf_crop_and_resize(plan: _Plan, at: Array) -> Array:
    reach, spread = (plan.stop - plan.start) * (plan.length - 1), plan.scale * plan.length - 1
    inside = at * reach / spread if spread else np.full_like(at, reach / 2)
    return plan.start * (plan.length - 1) + inside


_COORDINATES: dict[str, Callable[[_Plan, Array], Array]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "asymmetric": _asymmetric,
    "align_corners": _align_corners,
    "tf_crop_and_resize": _tf_crop_and_resize,
}

_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _nearest(at: Array, length: int, rounding: str) -> Array:
    """Return the index of the input element for each output element."""
    if rounding not in _ROUNDINGS:
        raise UnsupportedModelError(f"Resize has no rounding {rounding!r} for nearest mode")
    return np.clip(_ROUNDINGS[rounding](at), 0, length - 1).astype(np.int32)


def _kernel(mode: str, a: float) -> tuple[Weights, int]:
    """Return an interpolation kernel, and its radius."""
    if mode == "linear":
        return (lambda distance: np.maximum(1 - distance, 0)), 1
    if mode == "cubic":
        return (lambda distance: cubic(distance, a)), 2
    raise UnsupportedModelError(f"Resize has no mode {mode!r}; it has nearest, linear and cubic")


def _matrix(
    at: Array, plan: _Plan, kernel: tuple[Weights, int], antialias: bool, exclude_outside: bool
) -> Array:
    """Return the interpolation matrix (size, length) of an axis; edges are repeated outside."""
    weights, radius = kernel
    shrink = min(plan.scale, 1.0) if antialias else 1.0
    reach = math.ceil(radius / shrink)
    taps = np.floor(at)[:, None] + np.arange(1 - reach, reach + 1)
    values = weights(np.abs(at[:, None] - taps) * shrink)
    if exclude_outside:
        values = values * ((taps >= 0) & (taps < plan.length))
    if exclude_outside or antialias:
        values = values / values.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(plan.size)[:, None], taps.shape)
    matrix = np.zeros((plan.size, plan.length))
    np.add.at(matrix, (rows, np.clip(taps, 0, plan.length - 1).astype(int)), values)
    return matrix


def _apply(xp: Any, matrix: Array, x: Array, axis: int) -> Array:
    """Multiply `x` by a matrix along an axis; integers are interpolated as floats and truncated."""
    exact = x.dtype.kind in "iu"
    kind = np.dtype(np.float32) if exact else x.dtype
    y = xp.moveaxis(
        xp.tensordot(xp.asarray(matrix, dtype=kind), x.astype(kind), (1, axis)), 0, axis
    )
    return y.astype(x.dtype)


def _extrapolate(xp: Any, x: Array, outside: Array, axis: int, value: float) -> Array:
    """Set a fixed value where the region is outside the input."""
    if not outside.any():
        return x
    mask = np.reshape(outside, [-1 if a == axis else 1 for a in range(x.ndim)])
    return xp.where(mask, xp.asarray(value, dtype=x.dtype), x)


@op("CenterCropPad", static=(1,), kind="pad", homogeneous=True)
def center_crop_pad(xp: Any, x: Array, shape: Array, *, axes: Sequence[int] | None = None) -> Array:
    """Crop or pad with zeros, centred, until the axes have these sizes."""
    for axis, size in zip(range(x.ndim) if axes is None else axes, map(int, shape), strict=True):
        axis %= x.ndim
        start = abs(x.shape[axis] - size) // 2
        if size < x.shape[axis]:
            x = x[(slice(None),) * axis + (slice(start, start + size),)]
        widths = [(0, 0)] * x.ndim
        widths[axis] = (start, size - x.shape[axis] - start) if size > x.shape[axis] else (0, 0)
        x = xp.pad(x, widths)
    return x


@op("DepthToSpace", kind="rearrange", homogeneous=True, planar=True)
def depth_to_space(xp: Any, x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Move channels into blocks of pixels."""
    n, c, *spatial = x.shape
    blocks, channels = [blocksize] * len(spatial), c // blocksize ** len(spatial)
    rank = len(spatial)
    split = (*blocks, channels) if mode == "DCR" else (channels, *blocks)
    first = 1 if mode == "DCR" else 2
    kept = rank + 1 if mode == "DCR" else 1
    order = [
        0,
        kept,
        *itertools.chain.from_iterable((2 + rank + i, first + i) for i in range(rank)),
    ]
    y = xp.transpose(xp.reshape(x, (n, *split, *spatial)), order)
    return xp.reshape(y, (n, channels, *(s * blocksize for s in spatial)))


@op("SpaceToDepth", kind="rearrange", homogeneous=True, planar=True)
def space_to_depth(xp: Any, x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Move blocks of pixels into channels."""
    n, c, *spatial = x.shape
    rank = len(spatial)
    split = itertools.chain.from_iterable((s // blocksize, blocksize) for s in spatial)
    outer, inner = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
    channels = (*inner, 1) if mode == "DCR" else (1, *inner)
    y = xp.transpose(xp.reshape(x, (n, c, *split)), (0, *channels, *outer))
    return xp.reshape(y, (n, c * blocksize**rank, *(s // blocksize for s in spatial)))
