"""The part of each operation's value that its inputs do not explain to first order."""

from __future__ import annotations

import tensorflow as tf

from xaimaps_tensorflow.graphs import VIEWS, Operation, Tensor

HOMOGENEOUS = VIEWS | frozenset(
    "Relu LeakyRelu MaxPool AvgPool Mean Sum Max Min Transpose ConcatV2 Split SplitV Slice "
    "StridedSlice Pad MirrorPad Tile BroadcastTo Pack Unpack AddN Neg Abs Add AddV2 Sub Maximum "
    "Minimum ResizeBilinear ResizeNearestNeighbor ResizeBicubic DepthToSpace SpaceToDepth "
    "SpaceToBatchND BatchToSpaceND GatherV2".split()
)
"""Operations that equal their own linearisation, where all their inputs depend on the images."""

LINEAR = frozenset(
    "Conv2D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMulV2 Einsum Mul".split()
)
"""Operations that are linear, where one of their inputs depends on the images."""

ADDING = frozenset({"Add", "AddV2", "BiasAdd", "Sub"})


def bias(operation: Operation, data: set[Operation]) -> Tensor | None:
    """Return `h - J x` for an operation's first value h at its inputs x; None where it is zero.

    Args:
        operation: the operation.
        data: the operations that depend on the images, which x comes from.
    """
    inputs = [x for x in operation.inputs if x.op in data and x.dtype.is_floating]
    others = [x for x in operation.inputs if x.op not in data and x.dtype.is_floating]
    if not inputs or not operation.outputs[0].dtype.is_floating:
        return None
    if operation.type in HOMOGENEOUS and not others:
        return None
    if operation.type in LINEAR and len(inputs) == 1:
        return None
    if operation.type in ADDING:
        return _added(operation, others[0])
    return operation.outputs[0] - _linear(operation.outputs[0], inputs)


def _added(operation: Operation, other: Tensor) -> Tensor:
    """What a sum adds, exactly, where a difference would leave rounding errors."""
    is_taken_away = operation.type == "Sub" and operation.inputs[1] is other
    return tf.zeros_like(operation.outputs[0]) + (-other if is_taken_away else other)


def _linear(value: Tensor, inputs: list[Tensor]) -> Tensor:
    """J x, as the derivative of the pull-back u J by u, along x."""
    u = tf.ones_like(value)
    pulled = tf.gradients(value, inputs, u, stop_gradients=inputs)
    pairs = [(g, x) for g, x in zip(pulled, inputs, strict=True) if g is not None]
    if not pairs:
        return tf.zeros_like(value)
    found = tf.gradients([g for g, _ in pairs], u, [x for _, x in pairs])[0]
    return tf.zeros_like(value) if found is None else found


def biases(operations: set[Operation], data: set[Operation]) -> tuple[list[Tensor], list[Tensor]]:
    """The first value of each operation that has a bias, and its bias."""
    with_values = sorted((o for o in operations if o.outputs), key=lambda o: o.name)
    found = [(operation.outputs[0], bias(operation, data)) for operation in with_values]
    pairs = [(value, term) for value, term in found if term is not None]
    return [value for value, _ in pairs], [term for _, term in pairs]
