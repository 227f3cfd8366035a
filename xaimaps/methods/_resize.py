"""Resize maps by a matrix for each axis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from xaimaps._resampling import linear_weights
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import native

Interpolation = Literal["bilinear", "nearest"]


def filtered(xp: Any, images: Array, *matrices: Array) -> Array:
    """Compute `filtered_maps` for each channel of `(..., *spatial, C)`."""
    first = -1 - len(matrices)
    channels_first = xp.moveaxis(images, -1, first)
    return xp.moveaxis(filtered_maps(xp, channels_first, *matrices), first, -1)


def filtered_maps(xp: Any, maps: Array, *matrices: Array) -> Array:
    """Multiply each of the last axes by its matrix: `rows @ map @ columns.T` for `(..., H, W)`."""
    *outer, last = matrices
    for axis, matrix in enumerate(outer, -len(matrices)):
        maps = xp.moveaxis(xp.matmul(matrix, xp.moveaxis(maps, axis, -2)), -2, axis)
    return xp.matmul(maps, xp.matrix_transpose(last))


def resized(
    backend: Backend, maps: Array, size: tuple[int, ...], how: Interpolation = "bilinear"
) -> Array:
    """Resize maps `(..., *spatial)` to another spatial size, with half-pixel centres.

    Raises:
        MethodError: `how` is not "bilinear" or "nearest".
    """
    if how not in ("bilinear", "nearest"):
        raise MethodError(f"`interpolation` must be 'bilinear' or 'nearest', got {how!r}")
    weights = linear_weights if how == "bilinear" else _nearest_weights
    sizes = zip(maps.shape[-len(size) :], size, strict=True)
    matrices = (native(backend, weights(*pair), maps) for pair in sizes)
    return filtered_maps(backend.xp, maps, *matrices)


def _nearest_weights(n_in: int, n_out: int) -> np.ndarray[Any, Any]:
    source = np.arange(n_out) * n_in // n_out
    weights = np.equal(source[:, None], np.arange(n_in))
    return np.asarray(weights, np.float32)
