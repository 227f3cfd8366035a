"""The conversion from numpy, in which shapes and indices stay exact, to JAX."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp
from onnxjax.errors import UnsupportedModelError

Array = Any

STATIC_SIZE = 32
"""Arrays of floats with at most this many elements stay in numpy: scales, bounds and sizes, not
weights."""

STATIC_INPUT_SIZE = 1024
"""Integer inputs with at most this many elements may be static: shapes, not images."""


def is_static(value: Array) -> bool:
    """Return whether a value is known while the graph is traced."""
    return value is None or isinstance(value, np.ndarray | np.generic)


def may_be_static(value: Array) -> bool:
    """Return whether a numpy array given as an input can be a shape, an index or a scale."""
    if not isinstance(value, np.ndarray | np.generic):
        return False
    return value.size <= (STATIC_INPUT_SIZE if value.dtype.kind in "iub" else STATIC_SIZE)


def enter(value: Array) -> Array:
    """Convert a numpy array for JAX without changing an integer; return anything else unchanged.

    Raises:
        UnsupportedModelError: an integer does not fit into JAX's 32 bits.
    """
    if not isinstance(value, np.ndarray | np.generic):
        return value
    if value.size > STATIC_SIZE and not any(value.strides):  # one number, repeated
        return jnp.broadcast_to(enter(np.asarray(value)[(0,) * value.ndim]), value.shape)
    if value.dtype.kind not in "iu":
        return value
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype == value.dtype or not value.size:
        return value
    limits = np.iinfo(dtype)
    if value.min() < limits.min or value.max() > limits.max:
        raise UnsupportedModelError(
            f"integers from {value.min()} to {value.max()} do not fit into {dtype}, the widest "
            "that JAX has here; set JAX_ENABLE_X64=1"
        )
    return value.astype(dtype)
