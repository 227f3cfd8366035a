"""Division and softmax that stay finite."""

from __future__ import annotations

from typing import Any

Array = Any


def divided(xp: Any, values: Array, by: Array) -> Array:
    """Divide, with 0 where the divisor is 0."""
    safe = xp.where(by == 0, xp.ones_like(by), by)
    quotient = values / safe
    return xp.where(by == 0, xp.zeros_like(quotient), quotient)


def softmax(xp: Any, values: Array) -> Array:
    """Return probabilities over the last axis."""
    powers = xp.exp(values - xp.max(values, axis=-1, keepdims=True))
    return powers / xp.sum(powers, axis=-1, keepdims=True)


def log_softmax(xp: Any, values: Array) -> Array:
    """Return the logarithms of `softmax`, also of probabilities that are rounded to zero."""
    shifted = values - xp.max(values, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))
