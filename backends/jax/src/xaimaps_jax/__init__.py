"""The JAX backend of xaimaps."""

from xaimaps_jax.backend import JaxBackend

__all__ = ["JaxBackend"]
