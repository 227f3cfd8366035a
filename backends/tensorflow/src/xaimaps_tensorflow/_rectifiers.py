"""Derivatives of rectifiers for guided backpropagation and deconvolution."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from xaimaps.backend import RectifierRule

Tensor = Any
Operation = Any
Derivative = Callable[[Operation, Tensor], Tensor]


def _relu6(operation: Operation, g: Tensor) -> Tensor:
    return tf.raw_ops.Relu6Grad(gradients=g, features=operation.outputs[0])


def _relu(operation: Operation, g: Tensor) -> Tensor:
    return tf.raw_ops.ReluGrad(gradients=g, features=operation.outputs[0])


def _leaky_relu(operation: Operation, g: Tensor) -> Tensor:
    slope = operation.get_attr("alpha")
    return tf.raw_ops.LeakyReluGrad(gradients=g, features=operation.inputs[0], alpha=slope)


def _elu(operation: Operation, g: Tensor) -> Tensor:
    return tf.raw_ops.EluGrad(gradients=g, outputs=operation.outputs[0])


def _selu(operation: Operation, g: Tensor) -> Tensor:
    return tf.raw_ops.SeluGrad(gradients=g, outputs=operation.outputs[0])


RECTIFIERS: dict[str, Derivative] = {
    "Relu": _relu,
    "Relu6": _relu6,
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Selu": _selu,
}
"""Operations that pass positive values and suppress negative ones, with their derivatives."""


def _guided(operation: Operation, g: Tensor) -> Tensor:
    return RECTIFIERS[operation.type](operation, tf.nn.relu(g))


def _deconvnet(operation: Operation, g: Tensor) -> Tensor:
    return tf.nn.relu(g)


tf.RegisterGradient("XaimapsGuided")(_guided)
tf.RegisterGradient("XaimapsDeconvnet")(_deconvnet)

_REGISTERED = {"guided": "XaimapsGuided", "deconvnet": "XaimapsDeconvnet"}


def rectifying(rule: RectifierRule | None) -> AbstractContextManager[Any]:
    """Replace the derivatives of rectifiers that are added to the graph inside the context."""
    if rule is None:
        return nullcontext()
    graph = tf.compat.v1.get_default_graph()
    return graph.gradient_override_map(dict.fromkeys(RECTIFIERS, _REGISTERED[rule]))  # type: ignore[no-any-return]
