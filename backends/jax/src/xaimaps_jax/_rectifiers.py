"""Derivatives of rectifiers for guided backpropagation and deconvolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Step, Values

from xaimaps.backend import RectifierRule

Array = Any


def rectifying(rule: RectifierRule, is_rectifier: Callable[[Any], bool], step: Step) -> Step:
    """Return a step that replaces the derivative of every rectifier."""

    def run(node: Any, values: Values) -> None:
        if not is_rectifier(node):
            return step(node, values)

        def compute(x: Array) -> Array:
            local = {**values, node.inputs[0]: x}
            step(node, local)
            return local[node.outputs[0]]

        values[node.outputs[0]] = rectified(compute, rule)(values[node.inputs[0]])
        return None

    return run


def rectified(fn: Callable[[Array], Array], rule: RectifierRule) -> Callable[[Array], Array]:
    """Return a function that passes only positive gradients.

    Args:
        fn: an elementwise activation.
        rule: "guided" also multiplies the gradients by the derivative of `fn`; "deconvnet" does
            not.
    """

    @jax.custom_vjp
    def changed(x: Array) -> Array:
        return fn(x)

    def forward(x: Array) -> tuple[Array, Array]:
        return fn(x), x

    def backward(x: Array, g: Array) -> tuple[Array]:
        positive = jnp.maximum(g, 0)
        return (jax.vjp(fn, x)[1](positive)[0] if rule == "guided" else positive,)

    changed.defvjp(forward, backward)
    return changed
