"""The JAX backend of xaimaps."""

from xaimaps_jax._backend import JaxBackend
from xaimaps_jax._export import export
from xaimaps_jax._function import function
from xaimaps_jax._tap import tap

__all__ = ["JaxBackend", "export", "function", "tap"]
