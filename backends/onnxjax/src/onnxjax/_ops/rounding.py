"""Arithmetic whose last bit is that of ONNX Runtime's kernels.

Quantised values are rounded to integers again and again; where a sum is a tie, its last bit
decides which neighbour it becomes, and XLA may choose another order or instruction than is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp, lax

Array = Any

_HIGH_HALF = 0xFFFFF000


def exact_quotient(x: Array, divisor: Array) -> Array:
    """Divide as numpy does.

    XLA would multiply by the inverse of a divisor that it sees to be constant or broadcast, which
    rounds some ties to another integer; it cannot see through the choice.
    """
    if not isinstance(x, jax.core.Tracer) and not isinstance(divisor, jax.core.Tracer):
        return jnp.asarray(np.asarray(x) / np.asarray(divisor))
    return x / jnp.where(jnp.isnan(x), 1, divisor)


def fused_multiply_add(integer: Array, factor: Array, summand: Array) -> Array:
    """`integer` * `factor` + `summand`, rounded once, as processors do it in one instruction.

    Half the bits of a float32 times an integer of up to 12 bits is exact, so nothing is lost until
    the last addition, whether or not XLA fuses some of these.
    """
    factor = jnp.asarray(factor, jnp.float32)
    high = lax.bitcast_convert_type(
        lax.bitcast_convert_type(factor, jnp.uint32) & jnp.uint32(_HIGH_HALF), jnp.float32
    )
    product = integer * high
    total = product + summand
    rest = total - product
    lost = (product - (total - rest)) + (summand - rest)
    return total + (lost + integer * (factor - high))
