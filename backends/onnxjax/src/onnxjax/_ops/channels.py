"""The order of axes that is fast on a platform.

ONNX has channels before the spatial axes. On CPU, XLA's loops and matrix products run along the
last axis. In the deep layers of a network that axis is short, whereas there are many channels.
Therefore feature maps are computed with channels last on CPU. XLA removes the transpositions
between consecutive operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxjax._arrays import is_static
from onnxjax._jax import jnp
from onnxjax._ops.platforms import lowering

Array = Any


def is_channels_last() -> bool:
    """Return whether feature maps are computed with channels last."""
    return lowering().channels_last


def last(x: Array) -> Array:
    """Transpose (N, C, *spatial) to (N, *spatial, C)."""
    return jnp.moveaxis(x, 1, -1)


def first(x: Array) -> Array:
    """Transpose (N, *spatial, C) to (N, C, *spatial)."""
    return jnp.moveaxis(x, -1, 1)


def is_moved(*arrays: Array | None) -> bool:
    """Return whether a rule computes with channels last: for traced arrays with spatial axes."""
    rank = max(np.ndim(a) for a in arrays if a is not None)
    return rank > 2 and is_channels_last() and not all(map(is_static, arrays))


def over_positions(fn: Callable[[Array, int], Array], x: Array) -> Array:
    """Compute `fn(x, axis)`, whose spatial axes begin at `axis`, in the fast order."""
    return first(fn(last(x), 1)) if is_channels_last() else fn(x, 2)


def axis_of(axis: int, rank: int) -> int:
    """Return the position in (N, *spatial, C) of an axis of (N, C, *spatial)."""
    order: tuple[int, ...] = (0, rank - 1, *range(1, rank - 1))
    return order[axis]


def elementwise(fn: Callable[..., Array]) -> Callable[..., Array]:
    """Return a function that broadcasts feature maps (N, C, *spatial) in the fast order.

    An array of lower rank, such as one value for each channel, is broadcast as in numpy.
    """

    def run(*arrays: Array | None) -> Array:
        if not is_moved(*arrays):
            return fn(*arrays)
        rank = max(np.ndim(a) for a in arrays if a is not None)
        return first(fn(*(_last_of(a, rank) for a in arrays)))

    return run


def _last_of(x: Array | None, rank: int) -> Array | None:
    """Return an array with channels last, after its rank is extended; scalars stay."""
    if x is None or np.size(x) == 1:
        return x
    return last(jnp.reshape(x, (*(1,) * (rank - x.ndim), *x.shape)))
