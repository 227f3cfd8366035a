"""Regions of interest, cropped from images and resized to one size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxjax._jax import jnp
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@op("RoiAlign", since=10, kind="pool")
def roi_align_10(
    xp: Any,
    x: Array,
    rois: Array,
    batch_indices: Array,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:
    """Compute `roi_align_16` without the shift by half a pixel."""
    shape = (output_height, output_width)
    return _roi_align(x, rois, batch_indices, mode, shape, sampling_ratio, spatial_scale, False)


@op("RoiAlign", since=16)
def roi_align_16(
    xp: Any,
    x: Array,
    rois: Array,
    batch_indices: Array,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:
    """Crop `rois` (R, 4) from `x` and resize them; corners are x1, y1, x2, y2."""
    half = coordinate_transformation_mode == "half_pixel"
    shape = (output_height, output_width)
    return _roi_align(x, rois, batch_indices, mode, shape, sampling_ratio, spatial_scale, half)


def _roi_align(
    x: Array,
    rois: Array,
    batch: Array,
    mode: str,
    shape: tuple[int, int],
    ratio: int,
    scale: float,
    half_pixel: bool,
) -> Array:
    """Return the mean or maximum of `ratio` x `ratio` bilinear samples in each cell."""
    if mode not in ("avg", "max"):
        raise UnsupportedModelError(f"RoiAlign has no mode {mode!r}; only 'avg' and 'max'")
    if ratio == 0 and not isinstance(rois, np.ndarray):
        raise UnsupportedModelError(
            "RoiAlign with sampling_ratio 0 needs the value of its regions when the graph is "
            "traced; export it with a fixed sampling ratio"
        )
    x = jnp.asarray(x)
    xp: Any = np if isinstance(rois, np.ndarray) else jnp
    x1, y1, x2, y2 = (rois * xp.asarray(scale, rois.dtype) - (0.5 if half_pixel else 0)).T
    axes = [
        _roi_taps(xp, low, high, n, size, ratio, not half_pixel)
        for low, high, n, size in ((y1, y2, shape[0], x.shape[2]), (x1, x2, shape[1], x.shape[3]))
    ]
    return _roi_reduce(x, jnp.asarray(batch, jnp.int32), axes, mode)


def _roi_taps(
    xp: Any, low: Array, high: Array, cells: int, size: int, ratio: int, at_least_one: bool
) -> Any:
    """Return, for one axis, two `(index, weight)` of (R, cells, samples), and sample counts."""
    length = xp.maximum(high - low, 1) if at_least_one else high - low
    cell = length / cells
    counts = xp.full_like(cell, ratio) if ratio else np.maximum(np.ceil(cell), 1)
    samples = ratio or int(counts.max(initial=1))
    inside = (np.arange(samples) + 0.5) / counts[:, None, None]
    at = low[:, None, None] + (np.arange(cells)[:, None] + inside) * cell[:, None, None]
    kept = (at >= -1) & (at <= size) & (np.arange(samples) < counts[:, None, None])
    at = xp.clip(at, 0, size - 1)
    floor = xp.minimum(xp.floor(at), max(size - 2, 0))
    ceiling = xp.minimum(floor + 1, size - 1)
    return ((floor, (1 - (at - floor)) * kept), (ceiling, (at - floor) * kept)), counts


def _roi_reduce(x: Array, batch: Array, axes: Any, mode: str) -> Array:
    """Interpolate every sample from its four corners, and reduce each cell's samples."""
    (rows, row_counts), (columns, column_counts) = axes
    regions = jnp.moveaxis(x, 1, -1)
    terms = []
    for (i, wi), (j, wj) in itertools.product(rows, columns):
        index_i = jnp.asarray(i, jnp.int32)[:, :, None, :, None]
        index_j = jnp.asarray(j, jnp.int32)[:, None, :, None, :]
        weight = wi[:, :, None, :, None] * wj[:, None, :, None, :]
        values = regions[batch.reshape(-1, 1, 1, 1, 1), index_i, index_j]
        terms.append(values * jnp.asarray(weight, x.dtype)[..., None])
    if mode == "max":
        y = _largest(functools.reduce(jnp.maximum, terms))
    else:
        counts = jnp.asarray(row_counts * column_counts, x.dtype)
        y = jnp.sum(functools.reduce(jnp.add, terms), axis=(3, 4)) / counts[:, None, None, None]
    return jnp.moveaxis(y, -1, 1)


def _largest(samples: Array) -> Array:
    """Return the largest of the samples `(R, h, w, rows, columns, C)` of each cell.

    The derivative follows its index. That of `jnp.max` follows the equality with the maximum, which
    fails where XLA computes the samples twice and rounds them differently.
    """
    every = samples.reshape(*samples.shape[:3], -1, samples.shape[-1])
    return jnp.take_along_axis(every, jnp.argmax(every, axis=3, keepdims=True), axis=3)[..., 0, :]


@op("MaxRoiPool", kind="pool")
def max_roi_pool(
    xp: Any, x: Array, rois: Array, *, pooled_shape: Sequence[int], spatial_scale: float = 1.0
) -> Array:
    """Return the maximum in each cell of each region; `rois` have batch, x1, y1, x2, y2."""
    x, rois = jnp.asarray(x), jnp.asarray(rois)
    corners = jnp.round(rois[:, 1:] * spatial_scale)
    lows, highs = corners[:, 1::-1], corners[:, :1:-1]
    y = x[rois[:, 0].astype(jnp.int32)]
    for axis, cells in enumerate(pooled_shape):
        inside = _cells(lows[:, axis], highs[:, axis], cells, x.shape[2 + axis])
        y = _masked_max(y, inside, 2 + axis)
    return jnp.where(jnp.isneginf(y), 0, y)


def _cells(low: Array, high: Array, cells: int, size: int) -> Array:
    """Return which positions of an axis belong to each region's cells: (R, cells, size)."""
    step = jnp.maximum(high - low + 1, 1)[:, None] / cells
    number, positions = jnp.arange(cells), jnp.arange(size)
    start = jnp.clip(jnp.floor(number * step) + low[:, None], 0, size)
    stop = jnp.clip(jnp.ceil((number + 1) * step) + low[:, None], 0, size)
    return (positions >= start[..., None]) & (positions < stop[..., None])


def _masked_max(y: Array, inside: Array, axis: int) -> Array:
    """Return the maximum along `axis` in each cell; the first of equal values is taken."""
    rows = jnp.moveaxis(y, axis, -1)
    masked = jnp.where(inside[:, None, None], rows[..., None, :], -jnp.inf)
    first = jnp.argmax(masked, axis=-1, keepdims=True)
    found = jnp.take_along_axis(masked, first, axis=-1)[..., 0]
    return jnp.moveaxis(found, -1, axis)
