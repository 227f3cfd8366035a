"""Arithmetic that agrees with ONNX Runtime's kernels in the last bit.

Quantised values are rounded to integers after every operator. If a value is a tie, its last bit
decides to which integer it is rounded, and XLA may use another order or instruction than the code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp, lax

Array = Any

_HIGH_HALF = 0xFFFFF000


def exact_quotient(x: Array, divisor: Array) -> Array:
    """Divide as numpy does.

    XLA would multiply by the inverse of a divisor that is constant or broadcast, which rounds some
    ties to another integer. The `where` hides the divisor from that optimisation.
    """
    if not isinstance(x, jax.core.Tracer) and not isinstance(divisor, jax.core.Tracer):
        return jnp.asarray(np.asarray(x) / np.asarray(divisor))
    return x / jnp.where(jnp.isnan(x), 1, divisor)


def fused_multiply_add(integer: Array, factor: Array, summand: Array) -> Array:
    """Return `integer` * `factor` + `summand`, rounded once, as by one instruction of a processor.

    The upper half of a float32's bits times an integer of at most 12 bits is exact. Therefore
    nothing is lost before the last addition, whether or not XLA fuses some of the operations.
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
