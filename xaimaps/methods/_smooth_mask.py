"""Smooth masks: the largest of the cells of a coarse grid around each pixel, softly."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._maps import native
from xaimaps.methods._resize import filtered_maps

_COLDNESS = 20
"""How much the largest cell outweighs the others in the softmax over cells."""


class Grid(NamedTuple):
    """A grid of cells under an image, and the mask that they make; `grid_for` makes it.

    A mask has a margin around the image, and T cells around each of its pixels along each axis.

    Attributes:
        xp: the namespace.
        size: of the grid.
        picks: the cells around each pixel, a matrix `(T * pixels, cells)` of ones for each axis.
        weights: how much a cell counts, by its distance, `(T * rows, T * columns)`.
        crops: cut the image out of the mask, a matrix `(H, pixels)` for each axis.
    """

    xp: Any
    size: tuple[int, ...]
    picks: tuple[Array, ...]
    weights: Array
    crops: tuple[Array, ...]

    def mask(self, cells: Array) -> Mask:
        r"""Return the mask of cells `(N, *size)`.

        $$m_u = \sum_k p_{uk} v_{uk}, \qquad v_{uk} = w_{uk} c_k, \qquad
        p_u = \mathrm{softmax}_k(20\, v_{uk})$$
        """
        xp = self.xp
        values = self._by_tap(self.weights * filtered_maps(xp, cells, *self.picks))
        powers = xp.exp(_COLDNESS * values)
        shares = powers / xp.sum(powers, axis=(1, 3), keepdims=True)
        return Mask(self, values, shares, xp.sum(shares * values, axis=(1, 3)))

    def _by_tap(self, values: Array) -> Array:
        """Reshape `(N, T * rows, T * columns)` to `(N, T, rows, T, columns)`."""
        pixels = [crop.shape[1] for crop in self.crops]
        parts = ((side // n, n) for side, n in zip(values.shape[1:], pixels, strict=True))
        return self.xp.reshape(values, (values.shape[0], *(n for part in parts for n in part)))


class Mask(NamedTuple):
    """The mask of a grid, with what its derivative needs."""

    grid: Grid
    values: Array
    shares: Array
    whole: Array

    @property
    def inner(self) -> Array:
        """The part of the mask over the image, `(N, H, W)`."""
        return filtered_maps(self.grid.xp, self.whole, *self.grid.crops)

    def pull(self, inner: Array, whole: Array) -> Array:
        """Return the gradient by the cells, from those by the inner and by the whole mask."""
        xp, grid = self.grid.xp, self.grid
        mask, slopes = (
            part[:, None, :, None, :]
            for part in (
                self.whole,
                whole + filtered_maps(xp, inner, *map(xp.matrix_transpose, grid.crops)),
            )
        )
        slopes = slopes * self.shares * (1 + _COLDNESS * (self.values - mask))
        slopes = xp.reshape(slopes, (slopes.shape[0], *grid.weights.shape)) * grid.weights
        return filtered_maps(xp, slopes, *map(xp.matrix_transpose, grid.picks))


def grid_for(backend: Backend, images: Array, step: int, sigma: float) -> Grid:
    """Return a grid with a cell every `step` pixels, each of a radius of about `sigma` pixels."""
    size = tuple(images.shape[1:-1])
    taps = 2 * (1 + math.ceil(sigma / step)) + 1
    padding, counts = 1 + math.ceil(2 * sigma / step), tuple(-(-n // step) for n in size)
    pixels = [step * (n + 2 * padding - taps) + 1 for n in counts]
    cells = [
        np.arange(n) // step + np.arange(taps)[:, None] - padding for n in pixels
    ]  # of each tap and pixel
    picks = [
        (own[..., None] == np.arange(n)).reshape(-1, n)
        for own, n in zip(cells, counts, strict=True)
    ]
    apart = [
        np.ravel(np.arange(n) - (sigma + step * own)) for own, n in zip(cells, pixels, strict=True)
    ]
    distance = np.sqrt(functools.reduce(np.add.outer, [one**2 for one in apart])) / sigma
    weights = np.exp(-2 * np.maximum(distance - 0.5, 0) ** 2)
    crops = [np.eye(n, most, round(sigma)) for n, most in zip(size, pixels, strict=True)]
    own = [
        tuple(native(backend, np.asarray(one, np.float32), images) for one in matrices)
        for matrices in (picks, [weights], crops)
    ]
    return Grid(backend.xp, counts, own[0], own[1][0], own[2])
