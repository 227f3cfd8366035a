"""`tap`: names a value inside a JAX program, so that it becomes a layer.

A tap is an identity that stays in the traced program until it is compiled, through `jit`, `vmap`,
`grad`, `scan`, `remat` and functions with derivatives of their own. It compiles to nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Array = Any

tap_p = Primitive("xaimaps_tap")

MODULE = "xaimaps module "
"""The start of a named scope that is the path of a module, and not relative to other scopes."""


def tap(name: str, value: Array) -> Array:
    """Return a value unchanged, and make it a layer of that name.

    Args:
        name: the name of the layer, with "/" between its parts.
        value: an array.

    Returns:
        The same array.

    Example:
        >>> import jax.numpy as jnp
        >>> from xaimaps_jax import tap
        >>> def model(params, images):
        ...     features = tap("features", jnp.tanh(images @ params))
        ...     return features.mean((1, 2))
    """
    named: Array = tap_p.bind(jnp.asarray(value), name=name)
    return named


def tap_all(name: str, values: Any) -> Any:
    """Tap each array of floats in a pytree: the first as `name`, the others as `name#1` and so on.

    Args:
        name: the name of the layer.
        values: the result of a module. Leaves that are no arrays of floats are returned unchanged.
    """
    leaves, tree = jax.tree.flatten(values)
    count = 0
    for index, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating):
            leaves[index] = tap(f"{name}#{count}" if count else name, leaf)
            count += 1
    return jax.tree.unflatten(tree, leaves)


def _batched(values: Any, axes: Any, *, name: str) -> Any:
    """Move the batch to the front, where the layout of a layer has it."""
    return tap(name, jnp.moveaxis(values[0], axes[0], 0)), 0


def _differentiated(primals: Any, tangents: Any, *, name: str) -> Any:
    return tap(name, primals[0]), tangents[0]


tap_p.def_impl(lambda value, name: value)
tap_p.def_abstract_eval(lambda value, name: value)
ad.primitive_jvps[tap_p] = _differentiated
batching.primitive_batchers[tap_p] = _batched
mlir.register_lowering(tap_p, lambda context, value, name: [value])
