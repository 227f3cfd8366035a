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
    ties to another integer. The `where` hides the divisor from that optimisation. The division of
    an accelerator may be off by a few units in the last place, which float32 is corrected by.
    """
    if not isinstance(x, jax.core.Tracer) and not isinstance(divisor, jax.core.Tracer):
        return jnp.asarray(np.asarray(x) / np.asarray(divisor))
    hidden = jnp.where(jnp.isnan(x), 1, divisor)
    quotient = x / hidden
    if quotient.dtype != np.float32 or hidden.dtype != np.float32:
        return quotient
    return quotient + lax.stop_gradient(missing(quotient, x, hidden))


def missing(quotient: Array, x: Array, divisor: Array) -> Array:
    """Return what a quotient near `x / divisor` lacks, from its exact remainder; 0 if not finite.

    The upper and lower halves of a float32 have at most 12 bits, so that their products are exact.
    """
    q_high, d_high = upper_half(quotient), upper_half(divisor)
    q_low, d_low = quotient - q_high, divisor - d_high
    rest, lost = difference(x - q_high * d_high, q_high * d_low)
    remainder = ((rest - q_low * d_high) - q_low * d_low) + lost
    found = remainder / divisor
    return jnp.where(jnp.isfinite(found), found, 0)


def upper_half(x: Array) -> Array:
    """Return float32 without the lower 12 bits."""
    bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(_HIGH_HALF)
    return lax.bitcast_convert_type(bits, jnp.float32)


def difference(a: Array, b: Array) -> tuple[Array, Array]:
    """Return `a - b`, rounded, and what the rounding has lost."""
    result = a - b
    taken = a - result
    return result, (a - (result + taken)) + (taken - b)


def fused_multiply_add(integer: Array, factor: Array, summand: Array) -> Array:
    """Return `integer` * `factor` + `summand`, rounded once, as by one instruction of a processor.

    The upper half of a float32's bits times an integer of at most 12 bits is exact. Therefore
    nothing is lost before the last addition, whether or not XLA fuses some of the operations.
    """
    factor = jnp.asarray(factor, jnp.float32)
    high = upper_half(factor)
    product = integer * high
    total = product + summand
    rest = total - product
    lost = (product - (total - rest)) + (summand - rest)
    return total + (lost + integer * (factor - high))
