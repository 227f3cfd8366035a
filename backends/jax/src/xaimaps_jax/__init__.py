"""The JAX backend of xaimaps."""

from xaimaps_jax._backend import JaxBackend

__all__ = ["JaxBackend"]
