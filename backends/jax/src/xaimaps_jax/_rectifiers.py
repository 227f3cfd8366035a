"""Other derivatives for rectifiers, as guided backpropagation and deconvolution have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Node, Step, Values, plainly

from xaimaps.backend import RectifierRule

Array = Any

JAX_RECTIFIERS = frozenset("relu relu6 leaky_relu elu selu celu".split())
"""Those of jax.nn, by the names of their functions."""

RECTIFIERS = JAX_RECTIFIERS | frozenset(
    "Relu Clip LeakyRelu PRelu ThresholdedRelu Elu Selu Celu".split()
)
"""Activations that pass what is positive and hold back what is negative."""


def rectifying(rule: RectifierRule, step: Step = plainly) -> Step:
    """Give every rectifier another derivative."""

    def run(node: Node, values: Values) -> None:
        if node.operator not in RECTIFIERS:
            return step(node, values)

        def compute(x: Array) -> Array:
            local = {**values, node.inputs[0]: x}
            step(node, local)
            return local[node.outputs[0]]

        values[node.outputs[0]] = rectified(compute, rule)(values[node.inputs[0]])
        return None

    return run


def rectified(fn: Callable[[Array], Array], rule: RectifierRule) -> Callable[[Array], Array]:
    """A function that hands back positive gradients only.

    Args:
        fn: an elementwise activation.
        rule: "guided" multiplies them by the function's own derivative too, "deconvnet" does not.
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
