"""The part of each node's value that its inputs do not explain to first order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from xaimaps_jax.onnx.graph import Node, Step, Values
from xaimaps_jax.onnx.heads import VIEWS

Array = Any

HOMOGENEOUS = VIEWS | frozenset(
    "Relu LeakyRelu PRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum "
    "Transpose Concat Split Slice Pad Expand Resize DepthToSpace SpaceToDepth Sum Neg".split()
)
"""Operators that equal their own linearisation: they have no bias."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
"""Operators whose bias is their third input, at every place."""

AFFINE = frozenset({"Gemm", "MatMul", "BatchNormalization"})
"""Operators whose bias is their value at zero."""


def node_bias(node: Node, values: Values, data: frozenset[str], step: Step) -> Array | None:
    """Return `h - J x` for a node's first output h at its inputs x; None where it is zero.

    Args:
        node: the node.
        values: the values that it reads, and its own.
        data: the values that depend on the images, of which x is made.
        step: how nodes are run.
    """
    names = [name for name in dict.fromkeys(node.reads) if name in data]
    if not names or node.operator in HOMOGENEOUS:
        return None
    if node.operator in CONVOLUTIONS and names == [node.inputs[0]]:
        return _added(node, values)

    def value(*inputs: Array) -> Array:
        local = {**values, **dict(zip(names, inputs, strict=True))}
        step(node, local)
        return local[node.outputs[0]]

    inputs = [values[name] for name in names]
    if node.operator in AFFINE and len(names) == 1:
        return value(jnp.zeros_like(inputs[0]))
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in inputs):
        return None
    result, linear = jax.jvp(value, tuple(inputs), tuple(inputs))
    # What has no derivative, as a shape, has no part in the scores either.
    return result - linear if jnp.issubdtype(result.dtype, jnp.floating) else None


def _added(node: Node, values: Values) -> Array | None:
    """What a convolution adds; to compute it at zero would compile every convolution twice."""
    if not "".join(node.inputs[2:]):
        return None
    bias, result = values[node.inputs[2]], values[node.outputs[0]]
    return jnp.broadcast_to(bias.reshape(-1, *(1,) * (result.ndim - 2)), result.shape)
