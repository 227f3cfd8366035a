"""Interpolation of images at the positions of a grid or an affine map."""

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


@op("GridSample", since=16, planar=True)
def grid_sample(
    xp: Any,
    x: Array,
    grid: Array,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Array:
    """Sample `x` (N, C, *spatial) at `grid` (N, *out, rank); -1 and 1 are the edges."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    if mode not in ("linear", "nearest", "cubic") or padding_mode not in _PADDINGS:
        raise UnsupportedModelError(
            f"GridSample has no mode {mode!r} with padding {padding_mode!r}"
        )
    x, grid = jnp.asarray(x), jnp.asarray(grid)
    positions = [
        ((g + 1) * (n - 1) / 2) if align_corners else ((g + 1) * n - 1) / 2
        for g, n in zip(reversed(jnp.moveaxis(grid, -1, 0)), x.shape[2:], strict=True)
    ]
    return interpolate(x, positions, mode, padding_mode, bool(align_corners))


def interpolate(
    x: Array, positions: Sequence[Array], mode: str, padding: str, align_corners: bool = True
) -> Array:
    """Interpolate `x` (N, C, *spatial) at positions in pixels.

    Args:
        x: the images.
        positions: the coordinates in pixels, one array (N, *out) for each axis.
        mode: "nearest", "linear" or "cubic".
        padding: "zeros", "border" or "reflection", for positions outside the image.
        align_corners: whether reflection is at the outermost centres, not at the pixels' edges.
    """
    pad = functools.partial(_PADDINGS[padding], align_corners=align_corners)
    if mode != "cubic":
        positions = [pad(at, n) for at, n in zip(positions, x.shape[2:], strict=True)]
    taps = [list(_TAPS[mode](at)) for at in positions]
    total: Array = 0
    for corner in itertools.product(*taps):
        weights, index = [], []
        for (whole, weight), n in zip(corner, x.shape[2:], strict=True):
            kept = (whole >= 0) & (whole <= n - 1) if padding == "zeros" else True
            weights.append(jnp.where(kept, weight, 0))
            index.append(jnp.clip(pad(whole, n), 0, n - 1).astype(jnp.int32))
        weight = functools.reduce(jnp.multiply, weights)
        total = total + _pick(x, index) * weight[:, None].astype(x.dtype)
    return total


def _pick(x: Array, index: Sequence[Array]) -> Array:
    """Return elements of `x` (N, C, *spatial) at integer positions, as (N, C, *out)."""
    flat = jnp.zeros_like(index[0])
    for at, n in zip(index, x.shape[2:], strict=True):
        flat = flat * n + at
    found = jnp.take_along_axis(x.reshape(*x.shape[:2], -1), flat.reshape(len(flat), 1, -1), axis=2)
    return found.reshape(*x.shape[:2], *flat.shape[1:])


def _nearest_taps(at: Array) -> Any:
    yield jnp.round(at), jnp.ones_like(at)


def _linear_taps(at: Array) -> Any:
    low = jnp.floor(at)
    yield low, 1 - (at - low)
    yield low + 1, at - low


def _cubic_taps(at: Array) -> Any:
    low = jnp.floor(at)
    for step in range(-1, 3):
        yield low + step, cubic(jnp.abs(at - (low + step)))


def cubic(distance: Array, a: float = -0.75) -> Array:
    """Return Keys' cubic kernel at distances from 0 to 2."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return (d <= 1) * near + ((d > 1) & (d < 2)) * far


_TAPS = {"nearest": _nearest_taps, "linear": _linear_taps, "cubic": _cubic_taps}


def _zeros(at: Array, n: int, align_corners: bool) -> Array:
    return at


def _border(at: Array, n: int, align_corners: bool) -> Array:
    return jnp.clip(at, 0, n - 1)


def _reflection(at: Array, n: int, align_corners: bool) -> Array:
    low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
    if span == 0:
        return jnp.zeros_like(at)
    folded = jnp.abs(at - low) % (2 * span)
    return low + jnp.where(folded > span, 2 * span - folded, folded)


_PADDINGS = {"zeros": _zeros, "border": _border, "reflection": _reflection}


@op("AffineGrid", static=(1,))
def affine_grid(xp: Any, theta: Array, size: Array, *, align_corners: int = 0) -> Array:
    """Return the grid for GridSample that maps an image of `size` by the matrices `theta`."""
    theta = jnp.asarray(theta)
    axes = [_centres(int(n), bool(align_corners)) for n in size[2:]]
    positions = np.stack(
        [*reversed(np.meshgrid(*axes, indexing="ij")), np.ones([len(a) for a in axes])]
    )
    return jnp.einsum("nij,j...->n...i", theta, jnp.asarray(positions, theta.dtype))


def _centres(n: int, align_corners: bool) -> Array:
    if align_corners:
        return np.linspace(-1, 1, n)
    return (np.arange(n) * 2 + 1) / n - 1
