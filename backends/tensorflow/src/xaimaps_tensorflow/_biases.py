"""The part of each layer's value that its inputs do not explain to first order."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from xaimaps_tensorflow._graph import VIEWS, Operation, Tensor
from xaimaps_tensorflow._layer_groups import CALLS, Layer, inputs_of, layers

HOMOGENEOUS = VIEWS | frozenset(
    "Relu LeakyRelu MaxPool AvgPool Mean Sum Max Min Transpose ConcatV2 Split SplitV Slice "
    "StridedSlice Pad MirrorPad Tile BroadcastTo Pack Unpack AddN Neg Abs Add AddV2 Sub Maximum "
    "Minimum ResizeBilinear ResizeNearestNeighbor ResizeBicubic DepthToSpace SpaceToDepth "
    "SpaceToBatchND BatchToSpaceND GatherV2".split()
)
"""Operations that scale with their inputs, where all of them depend on the images."""

PRODUCTS = frozenset(
    "Conv2D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMulV2 Einsum Mul".split()
)
"""Operations that scale with each of their inputs."""

POWERS = {"Square": 2.0, "SquaredDifference": 2.0, "Sqrt": 0.5, "Rsqrt": -0.5, "Reciprocal": -1.0}
"""Operations that scale with a power of their inputs, where all of them depend on the images."""

ADDING = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})


def with_bias(operations: set[Operation], data: set[Operation]) -> list[Layer]:
    """The layers whose value is not what their inputs explain, in the order of computation.

    Args:
        operations: those that the scores depend on.
        data: those that depend on the images, see `smooth`.
    """
    real = (one for one in layers(operations, data) if one[-1].outputs[0].dtype.is_floating)
    return [layer for layer in real if len(layer) > 1 or _degree(layer[0], data) != 1]


def bias(layer: Layer, data: set[Operation]) -> Tensor:
    """Return `h - J x` for a layer's value h at those inputs x that depend on images."""
    operation, value = layer[-1], layer[-1].outputs[0]
    if len(layer) > 1:
        return value - _linear(layer, data)
    degree = _degree(operation, data)
    if degree is not None:  # Euler: J x = k h, where h scales with the k-th power of x
        return (1 - degree) * value
    if operation.type in ADDING:
        return _added(operation, _others(operation, data)[0])
    return value - _linear(layer, data)


def _others(operation: Operation, data: set[Operation]) -> list[Tensor]:
    return [x for x in operation.inputs if x.op not in data and x.dtype.is_floating]


def _degree(operation: Operation, data: set[Operation]) -> float | None:
    """The power of the inputs that a value scales with; None if it does not scale."""
    inputs = [x for x in operation.inputs if x.op in data and x.dtype.is_floating]
    others = _others(operation, data)
    if operation.type in PRODUCTS or _is_grouped_convolution(operation):
        return len(inputs)
    if operation.type == "RealDiv":
        return 0 if not others else 1 if others[0] is operation.inputs[1] else -1
    if others:
        return None
    return 1 if operation.type in HOMOGENEOUS else POWERS.get(operation.type)


def _is_grouped_convolution(operation: Operation) -> bool:
    """Keras has a function of its own for these, for TensorFlow has them on CPU in XLA only."""
    return operation.type in CALLS and "conv_xla" in operation.get_attr("f").name


def _added(operation: Operation, other: Tensor) -> Tensor:
    """What a sum adds, exactly, where a difference would leave rounding errors."""
    is_taken_away = operation.type == "Sub" and operation.inputs[1] is other
    return tf.zeros_like(operation.outputs[0]) + (-other if is_taken_away else other)


def _linear(layer: Layer, data: set[Operation]) -> Tensor:
    """J x: the derivative, by u, of what u pulls back, along x."""
    read = inputs_of(layer, data)
    inputs, value = _again(layer, read)
    u = tf.ones_like(value)
    pulled = tf.gradients(value, inputs, u, stop_gradients=inputs)
    pairs = [(g, x) for g, x in zip(pulled, inputs, strict=True) if g is not None]
    found = tf.gradients([g for g, _ in pairs], u, [x for _, x in pairs])[0] if pairs else None
    return tf.zeros_like(value) if found is None else found


def _again(layer: Layer, read: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """What is read, and the value of the same layer by itself.

    To differentiate, TensorFlow looks at all that is behind an input: here next to nothing.
    The derivative of a call is known to that call alone.
    """
    if layer[-1].type in CALLS:
        return list(read), layer[-1].outputs[0]
    inputs = [tf.identity(x) for x in read]
    known = {x.ref(): own for x, own in zip(read, inputs, strict=True)}
    for operation in layer:
        again = _copy(operation, [known.get(x.ref(), x) for x in operation.inputs])
        pairs = zip(operation.outputs, again.outputs, strict=True)
        known.update((before.ref(), now) for before, now in pairs)
    return inputs, known[layer[-1].outputs[0].ref()]


def _copy(operation: Operation, inputs: Sequence[Tensor]) -> Operation:
    """The same operation on other inputs."""
    return operation.graph.create_op(
        operation.type,
        list(inputs),
        [output.dtype for output in operation.outputs],
        attrs=dict(operation.node_def.attr),
        op_def=operation.op_def,
    )
