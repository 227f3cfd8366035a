"""Imputation of removed positions from their neighbours, as one linear system."""

from __future__ import annotations

from typing import Any

TINY = 1e-20


def imputed(backend: Any, image: Any, removed: Any, steps: Any) -> Any:
    """Return images in which each removed position is the mean of its neighbours.

    Neighbours along an axis have the weight 1/6, diagonal ones 1/12; those outside of the image
    are left out. The system is symmetric and positive definite, and solved by conjugate gradients
    that begin with the mean of the other positions.

    Args:
        backend: the scan and the functions.
        image: `(H, W, C)`.
        removed: `(m, H, W)`, 1 at the removed positions.
        steps: zeros, as many as the solver's steps.
    """
    xp, hole = backend.xp, removed[..., None]
    kept = (1 - hole) * image
    weight = _around(xp, xp.ones_like(hole))
    share = xp.sum(1 - hole, axis=(1, 2), keepdims=True) + TINY
    start = hole * (xp.sum(kept, axis=(1, 2), keepdims=True) / share)

    def product(x: Any) -> Any:
        return hole * (weight * x - _around(xp, x))

    def dot(a: Any, b: Any) -> Any:
        return xp.sum(a * b, axis=(1, 2), keepdims=True)

    def step(state: tuple[Any, ...], _: Any) -> tuple[tuple[Any, ...], None]:
        x, residual, way, power = state
        image_of_way = product(way)
        length = power / (dot(way, image_of_way) + TINY)
        x, residual = x + length * way, residual - length * image_of_way
        again = dot(residual, residual)
        return (x, residual, residual + again / (power + TINY) * way, again), None

    residual = hole * _around(xp, kept) - product(start)
    state = (start, residual, residual, dot(residual, residual))
    (x, *_), _ = backend.scan(step, state, steps)
    return kept + x


def _around(xp: Any, x: Any) -> Any:
    """Return the weighted sum of the eight neighbours, `(m, H, W, C)`; zeros outside."""
    rows = _three(xp, x, 1)
    return _three(xp, rows, 2) / 12 - x / 3


def _three(xp: Any, x: Any, axis: int) -> Any:
    """Return x with both neighbours along an axis, weights 1, 2, 1."""
    before, after = [slice(None)] * 4, [slice(None)] * 4
    before[axis], after[axis] = slice(0, -1), slice(1, None)
    edge = xp.zeros_like(x[(*[slice(None)] * axis, slice(0, 1))])
    lower = xp.concat([edge, x[tuple(before)]], axis=axis)
    upper = xp.concat([x[tuple(after)], edge], axis=axis)
    return lower + 2 * x + upper
