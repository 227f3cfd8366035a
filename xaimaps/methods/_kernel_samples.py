"""Coalitions for KernelSHAP, with the weights of Shapley's kernel."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._noise import Floats, uniform

Doubles = np.ndarray[Any, np.dtype[np.float64]]


def sample_coalitions(count: int, n_samples: int, seed: int) -> tuple[Floats, Doubles]:
    """Return coalitions `(V, count)` and their weights; the first two are none and all.

    As in the library shap, all coalitions of a size are taken, from the smallest and largest sizes
    on, while there are enough samples; the others are drawn in pairs of complements.

    Raises:
        MethodError: there are fewer samples than coalitions of one segment and their complements.
    """
    ends = np.stack([np.zeros(count), np.ones(count)]).astype(np.float32)
    least = min(2 * count, 2**count - 2)
    if n_samples < least:
        raise MethodError(
            f"`n_samples` must be at least {least} for {count} segments, got {n_samples}; take "
            "more samples, or fewer `segments`"
        )
    parts, kernel = [ends], [np.zeros(2)]
    sizes = list(range(1, count // 2 + 1))
    while sizes and _number(count, sizes[0]) <= _share(count, sizes, n_samples):
        rows = _every(count, sizes[0])
        parts.append(rows)
        kernel.append(np.full(len(rows), _mass(count, sizes.pop(0)) / len(rows)))
        n_samples -= len(rows)
    if sizes and n_samples > 1:
        rows = _drawn(count, sizes, n_samples // 2, seed)
        parts.append(rows)
        kernel.append(np.full(len(rows), sum(_mass(count, size) for size in sizes) / len(rows)))
    return np.concatenate(parts), np.concatenate(kernel)


def _mass(count: int, size: int) -> float:
    """Return the kernel's weight of all coalitions of a size and of their complements."""
    one = (count - 1) / (size * (count - size))
    return one if 2 * size == count else 2 * one


def _number(count: int, size: int) -> int:
    """Return the number of coalitions of a size and of their complements."""
    return math.comb(count, size) * (1 if 2 * size == count else 2)


def _share(count: int, sizes: list[int], n_samples: int) -> float:
    """Return how many of the samples the first size would get; size 1 is always complete."""
    if sizes[0] == 1 or n_samples >= sum(_number(count, size) for size in sizes):
        return n_samples
    return n_samples * _mass(count, sizes[0]) / sum(_mass(count, size) for size in sizes)


def _every(count: int, size: int) -> Floats:
    """Return all coalitions of a size, and their complements."""
    chosen = np.array(list(itertools.combinations(range(count), size)))
    rows = np.zeros((len(chosen), count), np.float32)
    np.put_along_axis(rows, chosen, 1, axis=1)
    return rows if 2 * size == count else np.concatenate([rows, 1 - rows])


def _drawn(count: int, sizes: list[int], pairs: int, seed: int) -> Floats:
    """Draw coalitions and their complements, the sizes in proportion to their weights."""
    drawn = uniform(seed, pairs, count + 1)
    masses = np.cumsum([_mass(count, size) for size in sizes])
    places = np.searchsorted(masses, drawn[:, 0] * masses[-1], side="right")
    chosen = np.array(sizes)[np.minimum(places, len(sizes) - 1)]
    ranks = np.argsort(np.argsort(drawn[:, 1:]))
    rows = (ranks < chosen[:, None]).astype(np.float32)
    return np.concatenate([rows, 1 - rows])
