"""Values that stay in memory, where XLA for CPU would compute them again.

XLA fuses an operation into all that read it. That is fast for a sum of a few arrays, but in a
backward pass, such sums grow: those of a depthwise convolution, and those of all blocks behind a
block. It removes optimization barriers before it fuses, but not a call that it must not inline.
"""

from __future__ import annotations

from typing import Any

from onnxjax._jax import custom_jvp, lax, traced_once, xla_metadata
from onnxjax._ops.platforms import lowering

Array = Any


def kept(x: Array) -> Array:
    """Return `x`, which XLA computes once, on platforms where it would do so again."""
    if not lowering().kept:
        return x
    with xla_metadata.set_xla_metadata(inlineable="false"):
        return _same(x)


@traced_once()
def _same(x: Array) -> Array:
    # JAX removes a call that returns its argument, hence the barrier.
    return lax.optimization_barrier(x)


def _kept_gradient_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return primals[0], kept(tangents[0])


@custom_jvp(_kept_gradient_jvp)
def with_kept_gradient(x: Array) -> Array:
    """Return `x`, whose gradient XLA computes once."""
    return x
