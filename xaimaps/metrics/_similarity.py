"""How similar two maps are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from xaimaps.errors import MethodError
from xaimaps.methods._options import check_choice
from xaimaps.metrics._case import Array, unit_range
from xaimaps.metrics._order import spearman

Similarity = Literal["spearman", "ssim"]

_SIGMA, _SIDE = 1.5, 11
"""The Gaussian window of Wang et al. 2004."""

_STEADY = 0.01**2, 0.03**2
"""Their constants, for values from 0 to 1."""

_REACH = np.arange(_SIDE) - _SIDE // 2
_BELL = np.exp(-0.5 * (_REACH / _SIGMA) ** 2)
_BELL /= _BELL.sum()


def similarity_by(name: str) -> Callable[[Array, Array], float]:
    """Return the function that compares two maps, NaN if one is constant or not finite.

    Raises:
        MethodError: there is no such similarity.
    """
    check_choice("similarity", name, SIMILARITIES)
    compare = SIMILARITIES[name]

    def similarity(one: Array, other: Array) -> float:
        defined = all(np.isfinite(x).all() and np.ptp(x) > 0 for x in (one, other))
        return compare(one, other) if defined else float("nan")

    return similarity


def ssim(one: Array, other: Array) -> float:
    """Return the mean structural similarity of two maps, each scaled to 0 to 1.

    Raises:
        MethodError: the maps are smaller than the window.
    """
    if min(one.shape) < _SIDE:
        raise MethodError(
            f"`similarity` must be 'spearman' for maps of fewer than {_SIDE} positions along an "
            f"axis, got 'ssim' for {' x '.join(map(str, one.shape))}"
        )
    a, b = (unit_range(x.astype(np.float64)) for x in (one, other))
    mean_a, mean_b = _local(a), _local(b)
    spread = _local(a * a) - mean_a**2 + _local(b * b) - mean_b**2
    shared = _local(a * b) - mean_a * mean_b
    first, second = _STEADY
    light = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    return float(np.mean(light * (2 * shared + second) / (spread + second)))


def _local(values: Array) -> Array:
    """Return the weighted mean of every window that lies inside."""
    for axis in range(values.ndim):
        windows: Array = np.lib.stride_tricks.sliding_window_view(values, _SIDE, axis)
        values = windows @ _BELL
    return values


SIMILARITIES: dict[str, Callable[[Array, Array], float]] = {
    "spearman": lambda one, other: spearman(one.ravel(), other.ravel()),
    "ssim": ssim,
}
