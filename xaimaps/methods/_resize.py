"""Resize maps by a matrix on either side."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from xaimaps._resampling import linear_weights
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import native

Interpolation = Literal["bilinear", "nearest"]


def filtered(xp: Any, images: Array, rows: Array, columns: Array) -> Array:
    """Compute `rows @ image @ columns.T` for each channel of `(..., H, W, C)`."""
    channels_first = xp.moveaxis(images, -1, -3)
    return xp.moveaxis(filtered_maps(xp, channels_first, rows, columns), -3, -1)


def filtered_maps(xp: Any, maps: Array, rows: Array, columns: Array) -> Array:
    """Compute `rows @ map @ columns.T` for maps `(..., H, W)`."""
    return xp.matmul(xp.matmul(rows, maps), xp.matrix_transpose(columns))


def resized(
    backend: Backend, maps: Array, size: tuple[int, int], how: Interpolation = "bilinear"
) -> Array:
    """Resize maps `(..., h, w)`, with half-pixel centres.

    Raises:
        MethodError: `how` is not "bilinear" or "nearest".
    """
    if how not in ("bilinear", "nearest"):
        raise MethodError(f"`interpolation` must be 'bilinear' or 'nearest', got {how!r}")
    weights = linear_weights if how == "bilinear" else _nearest_weights
    rows = native(backend, weights(maps.shape[-2], size[0]), maps)
    columns = native(backend, weights(maps.shape[-1], size[1]), maps)
    return filtered_maps(backend.xp, maps, rows, columns)


def _nearest_weights(n_in: int, n_out: int) -> np.ndarray[Any, Any]:
    source = np.arange(n_out) * n_in // n_out
    weights = np.equal(source[:, None], np.arange(n_in))
    return np.asarray(weights, np.float32)
