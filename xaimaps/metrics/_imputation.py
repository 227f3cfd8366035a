"""Imputation of removed positions from their neighbours, as one linear system."""

from __future__ import annotations

from typing import Any

from xaimaps._arithmetic import divided

PRECISION = 1e-5
"""The solver stops where the residual is this part of the first one; less is rounding."""


def imputed(backend: Any, image: Any, removed: Any, steps: Any) -> Any:
    """Return images in which each removed position is the mean of its neighbours.

    Neighbours along an axis have the weight 1/6, diagonal ones 1/12; those outside of the image
    are left out. The system is symmetric and positive definite, and solved by conjugate gradients.
    They begin with the solution for the image of half the size, as they are slow for what is far
    from a border of the holes.

    Args:
        backend: the scan and the functions.
        image: `(H, W, C)`.
        removed: `(m, H, W)`, 1 at the removed positions.
        steps: zeros, as many as the solver's steps for each size.
    """
    kept = 1 - removed[..., None]
    return _filled(backend, kept * image, kept, steps)


def _filled(backend: Any, sums: Any, counts: Any, steps: Any) -> Any:
    """Fill the holes between the means of blocks of pixels.

    Args:
        backend: the scan and the functions.
        sums: `(m, H, W, C)`, those of the pixels of each block that are kept.
        counts: `(m, H, W, 1)`, the number of these pixels; 0 is a hole.
        steps: see `imputed`.
    """
    xp = backend.xp
    means = divided(xp, sums, counts + 0 * sums)
    if max(sums.shape[1:3]) == 1:
        return means
    sums_of_blocks = _pair_sums(xp, _pair_sums(xp, sums, 1), 2)
    counts_of_blocks = _pair_sums(xp, _pair_sums(xp, counts, 1), 2)
    coarse = _filled(backend, sums_of_blocks, counts_of_blocks, steps)
    start = _doubled(xp, _doubled(xp, coarse, 1, sums.shape[1]), 2, sums.shape[2])
    return _solved(backend, means, xp.where(counts > 0, 0 * counts, 0 * counts + 1), start, steps)


def _solved(backend: Any, kept: Any, hole: Any, start: Any, steps: Any) -> Any:
    """Solve the system by conjugate gradients.

    Args:
        backend: the scan and the functions.
        kept: `(m, H, W, C)`, zeros in the holes.
        hole: `(m, H, W, 1)`, 1 in the holes.
        start: values for the holes.
        steps: see `imputed`.
    """
    xp = backend.xp
    weight = _around(xp, xp.ones_like(hole))

    def product(x: Any) -> Any:
        return hole * (weight * x - _around(xp, x))

    def dot(a: Any, b: Any) -> Any:
        return xp.sum(a * b, axis=(1, 2), keepdims=True)

    first = hole * start
    residual = hole * _around(xp, kept) - product(first)
    initial = dot(residual, residual)
    zeros = xp.zeros_like(initial)

    def step(state: tuple[Any, ...], _: Any) -> tuple[tuple[Any, ...], None]:
        x, residual, way, power = state
        image_of_way = product(way)
        is_open = power > PRECISION**2 * initial
        length = xp.where(is_open, divided(xp, power, dot(way, image_of_way)), zeros)
        x, residual = x + length * way, residual - length * image_of_way
        again = dot(residual, residual)
        way = residual + xp.where(is_open, divided(xp, again, power), zeros) * way
        return (x, residual, way, again), None

    (x, *_), _ = backend.scan(step, (first, residual, residual, initial), steps)
    return kept + x


def _around(xp: Any, x: Any) -> Any:
    """Return the weighted sum of the eight neighbours, `(m, H, W, C)`; zeros outside."""
    rows = _three(xp, x, 1)
    return _three(xp, rows, 2) / 12 - x / 3


def _three(xp: Any, x: Any, axis: int) -> Any:
    """Return x with both neighbours along an axis, weights 1, 2, 1."""
    edge = xp.zeros_like(_part(x, axis, 0, 1))
    lower = xp.concat([edge, _part(x, axis, 0, x.shape[axis] - 1)], axis=axis)
    upper = xp.concat([_part(x, axis, 1, x.shape[axis]), edge], axis=axis)
    return lower + 2 * x + upper


def _pair_sums(xp: Any, x: Any, axis: int) -> Any:
    """Return the sums of neighbouring pairs along an axis; an odd end is a pair with zero."""
    if x.shape[axis] % 2:
        x = xp.concat([x, xp.zeros_like(_part(x, axis, 0, 1))], axis=axis)
    shape = (*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
    return xp.sum(xp.reshape(x, shape), axis=axis + 1)


def _doubled(xp: Any, x: Any, axis: int, size: int) -> Any:
    """Repeat each entry of an axis twice, and keep the first `size`."""
    twice = xp.stack([x, x], axis=axis + 1)
    shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return _part(xp.reshape(twice, shape), axis, 0, size)


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(*[slice(None)] * axis, slice(start, stop))]
