"""The part of each operation's value that its inputs do not explain to first order."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from xaimaps_tensorflow.graphs import VIEWS, Operation, Tensor

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


def with_bias(operations: Iterable[Operation], data: set[Operation]) -> list[Operation]:
    """Those whose first value is not what their inputs explain.

    Args:
        operations: any.
        data: the operations that depend on the images.
    """
    floats = (one for one in operations if one.outputs and one.outputs[0].dtype.is_floating)
    found = (one for one in floats if _inputs(one, data) and _degree(one, data) != 1)
    return sorted(found, key=lambda operation: str(operation.name))


def bias(operation: Operation, data: set[Operation]) -> Tensor:
    """Return `h - J x` for an operation's first value h at those inputs x that depend on images."""
    value, degree = operation.outputs[0], _degree(operation, data)
    if degree is not None:  # Euler: J x = k h, where h scales with the k-th power of x
        return (1 - degree) * value
    if operation.type in ADDING:
        return _added(operation, _others(operation, data)[0])
    return value - _linear(operation, data)


def _inputs(operation: Operation, data: set[Operation]) -> list[Tensor]:
    return [x for x in operation.inputs if _is_float(x, data)]


def _others(operation: Operation, data: set[Operation]) -> list[Tensor]:
    return [x for x in operation.inputs if x.op not in data and x.dtype.is_floating]


def _degree(operation: Operation, data: set[Operation]) -> float | None:
    """The power of the inputs that a value scales with; None if it does not scale."""
    inputs, others = _inputs(operation, data), _others(operation, data)
    if operation.type in PRODUCTS or _is_grouped_convolution(operation):
        return len(inputs)
    if operation.type == "RealDiv":
        return 0 if not others else 1 if others[0] is operation.inputs[1] else -1
    if others:
        return None
    return 1 if operation.type in HOMOGENEOUS else POWERS.get(operation.type)


def _is_grouped_convolution(operation: Operation) -> bool:
    """Keras has a function of its own for these, for TensorFlow has them on CPU in XLA only."""
    return _is_call(operation) and "conv_xla" in operation.get_attr("f").name


def _is_call(operation: Operation) -> bool:
    return operation.type in ("PartitionedCall", "StatefulPartitionedCall")


def _added(operation: Operation, other: Tensor) -> Tensor:
    """What a sum adds, exactly, where a difference would leave rounding errors."""
    is_taken_away = operation.type == "Sub" and operation.inputs[1] is other
    return tf.zeros_like(operation.outputs[0]) + (-other if is_taken_away else other)


def _linear(operation: Operation, data: set[Operation]) -> Tensor:
    """J x: the derivative, by u, of what u pulls back, along x."""
    inputs, value = _again(operation)
    floats = [x for x, read in zip(inputs, operation.inputs, strict=True) if _is_float(read, data)]
    u = tf.ones_like(value)
    pulled = tf.gradients(value, floats, u, stop_gradients=floats)
    pairs = [(g, x) for g, x in zip(pulled, floats, strict=True) if g is not None]
    found = tf.gradients([g for g, _ in pairs], u, [x for _, x in pairs])[0] if pairs else None
    return tf.zeros_like(value) if found is None else found


def _is_float(tensor: Tensor, data: set[Operation]) -> bool:
    return tensor.op in data and bool(tensor.dtype.is_floating)


def _again(operation: Operation) -> tuple[list[Tensor], Tensor]:
    """The inputs and the first value of the same operation by itself.

    To differentiate, TensorFlow looks at all that is behind an input: here next to nothing.
    The derivative of a call is known to that call alone.
    """
    if _is_call(operation):
        return list(operation.inputs), operation.outputs[0]
    inputs = [tf.identity(x) for x in operation.inputs]
    again = operation.graph.create_op(
        operation.type,
        inputs,
        [output.dtype for output in operation.outputs],
        attrs=dict(operation.node_def.attr),
        op_def=operation.op_def,
    )
    return inputs, again.outputs[0]
