"""Gaussian blurs and low-pass filters, as a matrix on either side of an image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._maps import native
from xaimaps.methods._resize import filtered, filtered_maps

TRUNCATE = 4.0
"""The number of sigmas at which a Gaussian is cut off, as in SciPy."""

_THINNEST = 1e-2  # a Gaussian of this sigma is one pixel wide


class Gaussian(NamedTuple):
    """The blur of one axis, `(m, size, size)`, and its derivative by sigma."""

    matrix: Array
    slope: Array


def gaussian(xp: Any, size: int, sigmas: Array, most: float) -> Gaussian:
    r"""Make matrices of Gaussian blurs, with zeros outside of the image.

    With $p_d \propto e^{-d^2 / 2 \sigma^2}$ the derivative is
    $\partial p_d / \partial \sigma = p_d (d^2 - \sum_e p_e e^2) / \sigma^3$.

    Args:
        xp: the namespace.
        size: of the axis.
        sigmas: `(m,)` in pixels; 0 leaves the image unchanged.
        most: the largest sigma.
    """
    width = sigmas[:, None, None]

    def bell(distance: Array) -> Array:
        inside = xp.abs(distance) <= xp.floor(TRUNCATE * width + 0.5)
        height = xp.exp(-0.5 * (distance / xp.maximum(width, xp.full_like(width, _THINNEST))) ** 2)
        return xp.where(inside, height, xp.zeros_like(height))

    reach = int(TRUNCATE * most + 0.5)
    everywhere = xp.arange(-reach, reach + 1, dtype=sigmas.dtype)[None, None, :]
    positions = xp.arange(size, dtype=sigmas.dtype)
    apart = (positions[:, None] - positions[None, :])[None, ...]
    mass = xp.sum(bell(everywhere), axis=-1, keepdims=True)
    variance = xp.sum(bell(everywhere) * everywhere**2, axis=-1, keepdims=True) / mass
    matrix = bell(apart) / mass
    cube = xp.maximum(width, xp.full_like(width, _THINNEST)) ** 3
    return Gaussian(matrix, matrix * (apart**2 - variance) / cube)


def blurred(backend: Backend, images: Array, sigma: float) -> Array:
    """Blur `(N, *spatial, C)` by a Gaussian that is renormalised at the border."""
    xp = backend.xp

    def matrix(size: int) -> Array:
        whole = gaussian(np, size, np.asarray([sigma]), sigma).matrix[0]
        return native(backend, whole / np.sum(whole, axis=-1, keepdims=True), images)

    return filtered(xp, images, *map(matrix, images.shape[1:-1]))


def low_passed(backend: Backend, maps: Array, sigma: float, rank: int = 2) -> Array:
    """Keep the frequencies up to `sigma` cycles per map, in maps with `rank` axes at the end.

    FORGrad's ideal filter, a disk in the Fourier domain. It is linear and keeps the sum and the
    sign; the authors' code takes absolute values before and after.

    Raises:
        MethodError: `sigma` is not a positive number.

    References:
        Muzellec et al. 2023, https://arxiv.org/abs/2307.09591
    """
    if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not sigma > 0:
        raise MethodError(f"`low_pass` must be a frequency above 0, got {sigma!r}")
    sides = [_waves(size, sigma) for size in maps.shape[-rank:]]
    squares = np.meshgrid(*(cycles**2 for _, cycles in sides), indexing="ij")
    disk = native(backend, np.asarray(sum(squares) <= sigma**2, np.float32), maps)
    waves = [native(backend, matrix, maps) for matrix, _ in sides]
    spectrum = filtered_maps(backend.xp, maps, *waves) * disk
    return filtered_maps(backend.xp, spectrum, *map(backend.xp.matrix_transpose, waves))


def _waves(size: int, most: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return orthonormal sines and cosines of up to `most` cycles, and their numbers of cycles."""
    turns = 2 * np.pi * np.arange(size) / size
    last = min(int(most), size // 2)
    found = [(k, wave(k * turns)) for k in range(last + 1) for wave in (np.cos, np.sin)]
    found = [(k, wave) for k, wave in found if np.abs(wave).max() > 1e-9]
    rows = np.stack([wave / np.linalg.norm(wave) for _, wave in found])
    return rows, np.asarray([k for k, _ in found])
