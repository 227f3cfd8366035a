"""The first principal component of a layer's values, by operations that every backend has."""

from __future__ import annotations

from typing import Any

from xaimaps._arithmetic import divided
from xaimaps.backend import Array

_SQUARINGS = 12
"""Squarings of the Gram matrix: 2^12 steps of the power iteration."""


def first_component(xp: Any, values: Array, rank: int, *, centre: bool) -> Array:
    r"""Project every position's channels onto the direction in which they vary the most.

    With spatial positions as rows of $O = U \Sigma V^T$ the map is $O V_1$. The sign of $V_1$ is
    arbitrary; it is chosen so that the map's product with the mean over the channels is not
    negative.

    Args:
        xp: the namespace.
        values: `(..., *spatial, C)`.
        rank: the number of spatial axes.
        centre: subtract each channel's mean over the spatial positions first.

    Returns:
        `(..., *spatial)`.
    """
    shape = values.shape
    rows = xp.reshape(values, (*shape[: -rank - 1], -1, shape[-1]))
    mean = xp.mean(rows, axis=-1)
    if centre:
        rows = rows - xp.mean(rows, axis=-2, keepdims=True)
    largest = xp.max(xp.abs(rows), axis=(-2, -1), keepdims=True)
    found = _projection(xp, divided(xp, rows, largest)) * largest[..., 0]
    return xp.reshape(turned(xp, found, mean), shape[:-1])


def turned(xp: Any, component: Array, mean: Array) -> Array:
    """Choose the sign of `(..., P)`, so that the product with the mean is not negative."""
    is_against = xp.sum(component * mean, axis=-1, keepdims=True) < 0
    return xp.where(is_against, -component, component)


def _projection(xp: Any, rows: Array) -> Array:
    """Compute `O V_1` of `(..., P, C)` from the smaller of the two Gram matrices."""
    columns = xp.matrix_transpose(rows)
    if rows.shape[-2] > rows.shape[-1]:
        return xp.matmul(rows, leading(xp, xp.matmul(columns, rows))[..., None])[..., 0]
    left = leading(xp, xp.matmul(rows, columns))
    right = xp.matmul(columns, left[..., None])[..., 0]
    return left * xp.sqrt(xp.sum(right * right, axis=-1, keepdims=True))


def leading(xp: Any, gram: Array) -> Array:
    """Return the unit eigenvector of the largest eigenvalue of `(..., m, m)`; zeros for zeros."""
    eye = xp.eye(gram.shape[-1], dtype=gram.dtype)
    power = gram
    for _ in range(_SQUARINGS):
        power = divided(xp, power, xp.sum(power * eye, axis=(-2, -1), keepdims=True))
        power = xp.matmul(power, power)
    diagonal = xp.sum(power * eye, axis=-1)
    longest = xp.argmax(diagonal, axis=-1)[..., None] == xp.arange(gram.shape[-1])
    vector = xp.sum(xp.where(longest[..., None, :], power, xp.zeros_like(power)), axis=-1)
    for _ in range(2):  # removes the rounding errors of the squarings
        vector = _unit(xp, xp.matmul(gram, _unit(xp, vector)[..., None])[..., 0])
    return vector


def _unit(xp: Any, vectors: Array) -> Array:
    scaled = divided(xp, vectors, xp.max(xp.abs(vectors), axis=-1, keepdims=True))
    return divided(xp, scaled, xp.sqrt(xp.sum(scaled * scaled, axis=-1, keepdims=True)))
