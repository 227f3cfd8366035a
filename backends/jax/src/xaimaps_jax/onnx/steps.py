"""Ways to run a node that differ from its rule: a tap, a bypass, another derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from xaimaps.backend import RectifierRule
from xaimaps_jax.onnx.graph import Node, Step, Values, plainly

Array = Any

JAX_RECTIFIERS = frozenset("relu relu6 leaky_relu elu selu celu".split())
"""Those of jax.nn, by the names of their functions."""

RECTIFIERS = JAX_RECTIFIERS | frozenset(
    "Relu Clip LeakyRelu PRelu ThresholdedRelu Elu Selu Celu".split()
)
"""Activations that pass what is positive and hold back what is negative."""


def bypassing(names: frozenset[str], step: Step = plainly) -> Step:
    """Take the values `names` to equal the first input of their node."""

    def run(node: Node, values: Values) -> None:
        if names.intersection(node.outputs):
            values[node.outputs[0]] = values[node.inputs[0]]
        else:
            step(node, values)

    return run


def tapping(taps: Mapping[str, Array], step: Step = plainly) -> Step:
    """Add to a value before any other node sees it."""

    def run(node: Node, values: Values) -> None:
        step(node, values)
        for name in taps.keys() & set(node.outputs):
            values[name] = values[name] + taps[name]

    return run


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
