"""The part of each layer's value that its inputs do not explain to first order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Node, Step, Values
from xaimaps_onnx._heads import VIEWS

from xaimaps._layer_groups import Operation, joined

Array = Any
Layer = tuple[Node, ...]

HOMOGENEOUS = VIEWS | frozenset(
    "Relu LeakyRelu PRelu MaxPool AveragePool GlobalAveragePool GlobalMaxPool ReduceMean ReduceSum "
    "Transpose Split Slice Expand Resize DepthToSpace SpaceToDepth Neg".split()
)
"""Operators that equal their own linearisation: they have no bias."""

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
"""Operators whose bias is their third input, at every place."""

SUMS = frozenset("Add Sub Sum Concat Pad".split())
"""Operators whose bias is their value at zero, none if everything in them is data."""

AFFINE = frozenset({"Gemm", "BatchNormalization"})
"""Operators whose bias is their value at zero, if one of their inputs is data."""

SCALING = frozenset({"MatMul", "Mul"})
"""Operators without a bias, if one of their inputs is data."""

WEIGHING = CONVOLUTIONS | frozenset(
    "DeformConv ConvInteger QLinearConv Gemm MatMul Einsum MatMulInteger QLinearMatMul LSTM GRU "
    "RNN If Loop Scan".split()
)
"""Operators that are layers by themselves, whatever is around them."""


def biases(
    nodes: Sequence[Node], values: Values, data: frozenset[str], step: Step
) -> dict[str, Array]:
    """Return `h - J x` by the name of each layer's value h, at its inputs x; none that are zero.

    Args:
        nodes: those that the scores depend on, in order.
        values: all values by name.
        data: the names of those that depend on the images, of which x is made.
        step: how nodes are run.
    """
    smooth = _smooth(nodes, values, data)
    found = {
        layer[-1].outputs[0]: _bias(layer, values, smooth, step)
        for layer in _layers(nodes, smooth)
        if layer[-1].outputs[0] in smooth
    }
    return {name: bias for name, bias in found.items() if bias is not None}


def _smooth(nodes: Sequence[Node], values: Values, data: frozenset[str]) -> frozenset[str]:
    """The data that comes of the images as floats: a shape or a mask is constant to first order."""
    found = set(data).difference(*(node.outputs for node in nodes))
    for node in nodes:
        if found.intersection(node.reads):
            found.update(name for name in node.outputs if _is_float(values.get(name)))
    return frozenset(found)


def _layers(nodes: Sequence[Node], data: frozenset[str]) -> Iterator[Layer]:
    """The nodes that make data of data, as layers."""
    making = [node for node in nodes if data.intersection(node.outputs)]
    parts = [
        Operation(data & {*node.reads}, data & {*node.outputs}, node.operator in WEIGHING)
        for node in making
    ]
    images = data.difference(*(part.makes for part in parts))
    for places in joined(parts, images):
        yield tuple(making[place] for place in places)


def _bias(layer: Layer, values: Values, data: frozenset[str], step: Step) -> Array | None:
    """`h - J x` for a layer's value h at its inputs x; None where it is zero."""
    names = _inputs(layer, data)

    def value(*inputs: Array) -> Array:
        local = {**values, **dict(zip(names, inputs, strict=True))}
        for node in layer:
            step(node, local)
        return local[layer[-1].outputs[0]]

    inputs = [values[name] for name in names]
    if len(layer) == 1:
        if _is_homogeneous(layer[0], values, data):
            return None
        if layer[0].operator in CONVOLUTIONS and names == [layer[0].inputs[0]]:
            return _added(layer[0], values)
        if _is_affine(layer[0], data):
            return value(*map(jnp.zeros_like, inputs))
    result, linear = jax.jvp(value, tuple(inputs), tuple(inputs))
    return result - linear


def _inputs(layer: Layer, data: frozenset[str]) -> list[str]:
    """The data that a layer reads and does not make itself."""
    made = {name for node in layer for name in node.outputs}
    read = dict.fromkeys(name for node in layer for name in node.reads)
    return [name for name in read if name in data and name not in made]


def _is_homogeneous(node: Node, values: Values, data: frozenset[str]) -> bool:
    if node.operator in SUMS:
        return all(name in data for name in node.reads if _is_float(values[name]))
    is_scaled = node.operator in SCALING and _reads_once(node, data)
    return is_scaled or node.operator in HOMOGENEOUS


def _is_affine(node: Node, data: frozenset[str]) -> bool:
    return node.operator in SUMS or (node.operator in AFFINE and _reads_once(node, data))


def _reads_once(node: Node, data: frozenset[str]) -> bool:
    return sum(name in data for name in node.reads) == 1


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _added(node: Node, values: Values) -> Array | None:
    """What a convolution adds; to compute it at zero would compile every convolution twice."""
    if not "".join(node.inputs[2:]):
        return None
    bias, result = values[node.inputs[2]], values[node.outputs[0]]
    return jnp.broadcast_to(bias.reshape(-1, *(1,) * (result.ndim - 2)), result.shape)
