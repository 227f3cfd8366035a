"""The order of the positions of a map, and correlations."""

from __future__ import annotations

import numpy as np

from xaimaps.metrics._case import Array


def ranks(values: Array) -> Array:
    """Return the rank of each position, 0 for the highest value; of equal values the first."""
    order = np.argsort(-values, axis=None, kind="stable")
    found = np.empty(values.size, int)
    found[order] = np.arange(values.size)
    return found.reshape(values.shape)


def first_masks(ranked: Array, counts: Array) -> Array:
    """Return masks `(V, *spatial)` with 1 at the first `counts[v]` positions."""
    return (ranked < np.reshape(counts, (-1, *(1,) * ranked.ndim))).astype(np.float32)


def pearson(a: Array, b: Array) -> float:
    """Return the linear correlation, NaN if one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def spearman(a: Array, b: Array) -> float:
    """Return the correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(_shared_ranks(a), _shared_ranks(b))


def _shared_ranks(values: Array) -> Array:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Array = (last - (counts - 1) / 2)[group.reshape(-1)]
    return found
