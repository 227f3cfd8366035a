"""The operations of a TensorFlow graph as operations of `xaimaps.graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xaimaps.graph import (
    Aligned,
    Broadcast,
    Concatenated,
    Dense,
    Flow,
    Kind,
    Operation,
    Picked,
    Planar,
    Regrouped,
    Resized,
    gathered,
)

Tensor = Any
Source = Any
"""One of TensorFlow's own operations."""

_NAMES: Mapping[Kind, str] = {
    "view": "Identity Cast PreventGradient CheckNumerics StopGradient Reshape Squeeze ExpandDims",
    "transpose": "Transpose",
    "slice": "Slice StridedSlice Split SplitV GatherV2 SpaceToBatchND BatchToSpaceND Unpack",
    "pad": "Pad PadV2 MirrorPad",
    "expand": "Tile BroadcastTo",
    "resize": "ResizeBilinear ResizeNearestNeighbor ResizeBicubic",
    "rearrange": "DepthToSpace SpaceToDepth",
    "concat": "ConcatV2 Pack",
    "select": "Select SelectV2 Maximum Minimum IdentityN",
    "sum": "Add AddV2 AddN BiasAdd Sub",
    "product": "Mul",
    "quotient": "RealDiv",
    "exp": "Exp",
    "arithmetic": "Neg Abs Square SquaredDifference Sqrt Rsqrt Reciprocal Pow Log Log1p Expm1 Erf "
    "Erfc Sin Cos Tan Sign Floor Ceil Round Rint",
    "conv": "Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput Conv3DBackpropInputV2",
    "matmul": "MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3",
    "einsum": "Einsum",
    "control": "PartitionedCall StatefulPartitionedCall If StatelessIf While StatelessWhile",
    "batch_norm": "FusedBatchNormV3",
    "norm": "LRN L2Loss",
    "relu": "Relu Relu6 LeakyRelu Elu Selu",
    "activation": "Tanh Softplus Softsign",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax LogSoftmax",
    "pool": "AvgPool AvgPool3D",
    "max_pool": "MaxPool MaxPool3D",
    "reduce": "Mean Sum Max Min Prod ArgMax ArgMin All Any",
    "size": "Shape ShapeN Size Rank",
    "compare": "Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot",
    "random": "RandomUniform StatelessRandomUniformV2 RandomStandardNormal",
}

KINDS: Mapping[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""The kinds of TensorFlow's operations."""

HOMOGENEOUS = frozenset(
    "Identity Cast PreventGradient CheckNumerics Reshape Squeeze ExpandDims Relu LeakyRelu MaxPool "
    "AvgPool Mean Sum Max Min Transpose Split SplitV Slice StridedSlice MirrorPad Tile BroadcastTo "
    "Neg Abs Maximum Minimum ResizeBilinear ResizeNearestNeighbor ResizeBicubic DepthToSpace "
    "SpaceToDepth SpaceToBatchND BatchToSpaceND GatherV2 Pack Unpack".split()
)

POWERS = {"Square": 2.0, "SquaredDifference": 2.0, "Sqrt": 0.5, "Rsqrt": -0.5, "Reciprocal": -1.0}
"""The degree of operations that are powers."""

LINEAR = frozenset(
    "Conv2D Conv3D DepthwiseConv2dNative Conv2DBackpropInput MatMul BatchMatMulV2 Einsum Mul "
    "RealDiv Add AddV2 AddN BiasAdd Sub ConcatV2 Pack Pad".split()
)

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def operation_of(source: Source) -> Operation:
    """Return the operation of one of TensorFlow's."""
    kind = KINDS.get(source.type, "other")
    if is_grouped_convolution(source):
        kind = "conv"
    make = FLOWS.get(source.type)
    return Operation(
        kind=kind,
        operator=source.type,
        name=source.name,
        reads=tuple(x.name for x in source.inputs),
        makes=tuple(x.name for x in source.outputs),
        flow=make(source) if make else Broadcast(),
        degree=_degree(source),
        is_linear=source.type in LINEAR or is_grouped_convolution(source),
        dense=_dense(source),
        averages=_averages(source),
        sums=_reduced_axes(source) if source.type == "Sum" else None,
    )


def is_grouped_convolution(source: Source) -> bool:
    """Return whether an operation is the function by which Keras computes grouped convolutions.

    Keras compiles that function with XLA, because TensorFlow itself has none on CPU.
    """
    return source.type in CALLS and "conv_xla" in source.get_attr("f").name


def shape_of(tensor: Tensor) -> tuple[int, ...] | None:
    """Return the shape of a tensor, or None if it is not fully known."""
    return tuple(tensor.shape) if tensor.shape.is_fully_defined() else None


def _static(tensor: Tensor) -> list[int] | None:
    value = tf.get_static_value(tensor)
    return None if value is None else [int(i) for i in np.ravel(value)]


def _degree(source: Source) -> float | None:
    """Return the degree of homogeneity in all inputs together, or None."""
    if source.type == "Pow":
        exponent = tf.get_static_value(source.inputs[1])
        return None if exponent is None or np.size(exponent) != 1 else float(np.ravel(exponent)[0])
    return 1.0 if source.type in HOMOGENEOUS else POWERS.get(source.type)


def _dense(source: Source) -> Dense | None:
    """Return the weights of a matrix product, or of a 1x1 convolution, or None."""
    if source.type == "MatMul" and not source.get_attr("transpose_a"):
        return Dense(source.inputs[1].name, bool(source.get_attr("transpose_b")))
    is_conv = source.type in ("Conv2D", "Conv3D")
    is_single = is_conv and all(n == 1 for n in source.inputs[1].shape[:-2])
    return Dense(source.inputs[1].name) if is_single else None


def _averages(source: Source) -> frozenset[int] | None:
    """Return the axes over which an operation takes the mean, or None."""
    if source.type == "Mean":
        return _reduced_axes(source)
    if source.type not in ("AvgPool", "AvgPool3D"):
        return None
    before, after = source.inputs[0].shape[1:-1], source.outputs[0].shape[1:-1]
    is_global = [*source.get_attr("ksize")[1:-1], *after] == [*before, *[1] * len(after)]
    return frozenset(range(1, len(before) + 1)) if is_global else None


def _reduced_axes(source: Source) -> frozenset[int] | None:
    rank, axes = source.inputs[0].shape.rank, _static(source.inputs[1])
    return None if axes is None or rank is None else frozenset(axis % rank for axis in axes)


def _regrouped(source: Source) -> Flow:
    same = shape_of(source.inputs[0]) == shape_of(source.outputs[0])
    return Broadcast() if same else Regrouped()


def _transposed(source: Source) -> Flow:
    order = _static(source.inputs[1])
    return Broadcast() if order is None else Aligned.transposed(order)


def _planar(source: Source) -> Flow:
    kind = KINDS.get(source.type)
    is_stored = kind == "batch_norm" and not source.get_attr("is_training")
    return Planar.of_rank(
        source.outputs[0].shape.rank,
        channels_last=True,
        is_depthwise=is_stored or kind in ("pool", "max_pool"),
        is_pointwise=is_stored or _dense(source) is not None,
    )


def _reduced(source: Source) -> Flow:
    axes, rank = _reduced_axes(source), source.inputs[0].shape.rank
    if axes is None:
        return Broadcast()
    return Aligned.reduced(rank, axes, keeps=source.get_attr("keep_dims"))


def _concatenated(source: Source) -> Flow:
    axis = _static(source.inputs[-1])
    return Broadcast() if axis is None else Concatenated(axis[0])


def _resized(source: Source) -> Flow:
    same_rank = source.inputs[0].shape.rank == source.outputs[0].shape.rank
    return Resized() if same_rank else Broadcast()


def _strided(source: Source) -> Flow:
    """Return the flow of a slice, which may remove an axis of which it takes one position."""
    starts, ends = (_static(x) for x in source.inputs[1:3])
    before = shape_of(source.inputs[0])
    masks = [source.get_attr(f"{name}_mask") for name in ("ellipsis", "new_axis", "shrink_axis")]
    if starts is None or ends is None or before is None or masks[0] or masks[1]:
        return Broadcast()
    spans, gone = {}, [axis for axis in range(len(starts)) if masks[2] >> axis & 1]
    for axis, (start, end) in enumerate(zip(starts, ends, strict=True)):
        first = None if source.get_attr("begin_mask") >> axis & 1 else start
        last = None if source.get_attr("end_mask") >> axis & 1 else end
        if axis in gone:
            first, last = start, start % before[axis] + 1
        spans[axis] = slice(first, last).indices(before[axis])[:2]
    if not gone:
        return Resized(spans)
    return Picked(gone[0], spans) if len(gone) == 1 else Broadcast()


def _gathered(source: Source) -> Flow:
    indices, axis, before = (*map(_static, source.inputs[1:3]), shape_of(source.inputs[0]))
    if not axis or before is None:
        return Broadcast()
    place = axis[0] % len(before)
    if not indices:
        return Picked(place)
    keeps_rank = source.inputs[0].shape.rank == source.outputs[0].shape.rank
    return gathered(place, indices, before[place], keeps_rank=keeps_rank)


def _gathered_elements(source: Source) -> Flow:
    return Aligned.batch_alone(source.outputs[0].shape.rank)


def _sorted(source: Source) -> Flow:
    return Picked(source.inputs[0].shape.rank - 1)


def _multiplied(source: Source) -> Flow:
    names = ("transpose_a", "transpose_b") if source.type == "MatMul" else ("adj_x", "adj_y")
    left, right = map(source.get_attr, names)
    ranks = source.inputs[0].shape.rank, source.inputs[1].shape.rank
    return Aligned.matrix_product(ranks, is_transposed=(left, right))


def _einsum(source: Source) -> Flow:
    return Aligned.einsum(source.get_attr("equation").decode(), source.outputs[0].shape.rank)


def _softmax(source: Source) -> Flow:
    return Broadcast(mixes=frozenset({source.outputs[0].shape.rank - 1}))


_MAKERS: Mapping[Callable[[Source], Flow], str] = {
    _regrouped: "Reshape Squeeze ExpandDims",
    _transposed: "Transpose",
    _planar: "Conv2D DepthwiseConv2dNative Conv2DBackpropInput AvgPool MaxPool FusedBatchNormV3 "
    "DepthToSpace SpaceToDepth Conv3D Conv3DBackpropInputV2 AvgPool3D MaxPool3D",
    _reduced: "Mean Sum Max Min Prod",
    _concatenated: "ConcatV2",
    _resized: "Slice Split SplitV Pad PadV2 MirrorPad Tile ResizeBilinear ResizeNearestNeighbor "
    "ResizeBicubic",
    _strided: "StridedSlice",
    _gathered: "GatherV2",
    _gathered_elements: "GatherNd",
    _sorted: "TopKV2",
    _multiplied: "MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3",
    _einsum: "Einsum",
    _softmax: "Softmax LogSoftmax",
}

FLOWS = {name: make for make, names in _MAKERS.items() for name in names.split()}
"""The flows of operations that are not elementwise."""
