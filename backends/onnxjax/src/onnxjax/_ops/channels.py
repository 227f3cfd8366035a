"""The order of axes in which a platform's loops are fast.

ONNX has channels before the spatial axes. XLA's loops and matrix products on CPU run along the last
axis, which is short in the deep layers of a network, where channels are many. There, feature maps
are computed with channels last; XLA removes the transpositions between one operator and the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxjax._arrays import is_static
from onnxjax._jax import jax, jnp

Array = Any


def is_channels_last() -> bool:
    """Whether feature maps are computed with channels last."""
    return jax.default_backend() == "cpu"


def last(x: Array) -> Array:
    """(N, C, *spatial) as (N, *spatial, C)."""
    return jnp.moveaxis(x, 1, -1)


def first(x: Array) -> Array:
    """(N, *spatial, C) as (N, C, *spatial)."""
    return jnp.moveaxis(x, -1, 1)


def is_moved(*arrays: Array | None) -> bool:
    """Whether a rule runs on these with channels last: if they have spatial axes and are traced."""
    rank = max(np.ndim(a) for a in arrays if a is not None)
    return rank > 2 and is_channels_last() and not all(map(is_static, arrays))


def over_positions(fn: Callable[[Array, int], Array], x: Array) -> Array:
    """Compute `fn(x, axis)`, whose spatial axes begin at `axis`, in the order that is fast."""
    return first(fn(last(x), 1)) if is_channels_last() else fn(x, 2)


def axis_of(axis: int, rank: int) -> int:
    """Where an axis of (N, C, *spatial) is in (N, *spatial, C)."""
    order: tuple[int, ...] = (0, rank - 1, *range(1, rank - 1))
    return order[axis]


def elementwise(fn: Callable[..., Array]) -> Callable[..., Array]:
    """A function that broadcasts feature maps (N, C, *spatial), in the order that is fast.

    An array of lower rank, as of a value for each channel, is broadcast as numpy would.
    """

    def run(*arrays: Array | None) -> Array:
        if not is_moved(*arrays):
            return fn(*arrays)
        rank = max(np.ndim(a) for a in arrays if a is not None)
        return first(fn(*(_last_of(a, rank) for a in arrays)))

    return run


def _last_of(x: Array | None, rank: int) -> Array | None:
    """An array that is broadcast to that rank; one number is the same in any order."""
    if x is None or np.size(x) == 1:
        return x
    return last(jnp.reshape(x, (*(1,) * (rank - x.ndim), *x.shape)))
