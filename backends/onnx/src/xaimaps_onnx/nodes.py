"""The nodes of an ONNX graph as operations of `xaimaps.graph`: kinds, axes, dense weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx
from onnxjax.graph import Node

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
    Shape,
    gathered,
)

Statics = Mapping[str, np.ndarray[Any, Any]]
Span = tuple[int, int]


def cast_type(node: Node) -> np.dtype[Any] | None:
    """Return the type that a Cast converts to, None for any other node."""
    to = node.attributes.get("to") if node.operator == "Cast" else None
    if to is None:
        return None
    number = onnx.TensorProto.DataType.Value(to) if isinstance(to, str) else to
    return onnx.helper.tensor_dtype_to_np_dtype(number)


def _is_rounded(dtype: np.dtype[Any] | None) -> bool:
    return dtype is not None and dtype.kind not in "fV"  # V: the small floats of ml_dtypes


@dataclass(frozen=True)
class NodeReader:
    """The conversion of nodes to operations, with known shapes and static values.

    Attributes:
        shapes: the shapes of the weights and of the float values that depend on the images.
        statics: the values that are known without any image.
    """

    shapes: Mapping[str, Shape]
    statics: Statics

    def operation(self, node: Node) -> Operation:
        """Return the operation of a node."""
        kind = self._kind(node)
        return Operation(
            kind=kind,
            operator=node.operator,
            name=node.name,
            reads=node.inputs,
            makes=tuple(filter(None, node.outputs)),
            captured=node.reads[len([name for name in node.inputs if name]) :],
            flow=self._flow(kind, node),
            degree=self._degree(node),
            is_linear=node.rule.linear,
            adds=kind == "batch_norm" or (kind in ("conv", "dense") and any(node.inputs[2:])),
            is_differentiable=node.rule.differentiable and not _is_rounded(cast_type(node)),
            dense=self._dense(kind, node),
            averages=self._averages(node),
        )

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a value, or None if it is unknown."""
        if name in self.shapes:
            return self.shapes[name]
        return self.statics[name].shape if name in self.statics else None

    def integers(self, node: Node, attribute: str, position: int) -> list[int] | None:
        """Return integers that are an attribute in some opsets and an input in others."""
        found = node.attributes.get(attribute)
        if found is None and position < len(node.inputs):
            found = self.statics.get(node.inputs[position])
        return None if found is None else [int(i) for i in np.ravel(found)]

    def _kind(self, node: Node) -> Kind:
        if node.operator == "Gather" and self._takes_all(node):
            return "view"  # PyTorch's exporter writes as_strided as such a Gather
        if node.operator == "Dropout" and self._is_training(node):
            return "random"
        return KINDS.get(node.rule.kind) or cast("Kind", node.rule.kind)

    def _takes_all(self, node: Node) -> bool:
        """Return whether the indices select all of a vector in order, as in a reshape."""
        shape, indices = self.shape(node.inputs[0]), self.statics.get(node.inputs[1])
        if shape is None or len(shape) != 1 or indices is None or indices.size != shape[0]:
            return False
        return bool((np.ravel(indices) == np.arange(shape[0])).all())

    def _is_training(self, node: Node) -> bool:
        mode = self.statics.get(node.inputs[2]) if len(node.inputs) > 2 else None
        return mode is not None and bool(mode)

    def _flow(self, kind: Kind, node: Node) -> Flow:
        before = self.shape(node.inputs[0]) if node.inputs else None
        after = self.shape(node.outputs[0]) if node.outputs else None
        make = FLOWS.get(kind)
        if after is None or not (make or node.rule.planar):
            return Broadcast()
        if before is None:
            return _mixing(after)
        if node.rule.planar:
            return self._planar(kind, node, after)
        return make(self, node, before, after) if make else Broadcast()

    def _planar(self, kind: Kind, node: Node, after: Shape) -> Flow:
        is_stored = kind == "batch_norm" and not node.attributes.get("training_mode")
        return Planar.of_rank(
            len(after),
            channels_last=bool(node.attributes.get("channels_last")),
            is_depthwise=is_stored or kind in ("pool", "max_pool"),
            is_pointwise=is_stored or self._dense(kind, node) is not None,
        )

    def _same_or_regrouped(self, node: Node, before: Shape, after: Shape) -> Flow:
        return Broadcast() if before == after else Regrouped()

    def _transposed(self, node: Node, before: Shape, after: Shape) -> Flow:
        order = node.attributes.get("perm") or range(len(before))[::-1]
        return Aligned.transposed(order)

    def _sliced(self, node: Node, before: Shape, after: Shape) -> Flow:
        keeps_rank = len(before) == len(after)
        if node.operator in REORDERED_AXIS:
            axis = int(node.attributes.get("axis", REORDERED_AXIS[node.operator])) % len(before)
            indices = self.statics.get(node.inputs[1]) if node.operator == "Gather" else None
            if indices is None:
                return Picked(axis)
            return gathered(axis, np.ravel(indices).tolist(), before[axis], keeps_rank=keeps_rank)
        if node.operator == "GatherND" and node.inputs[1] not in self.statics:
            return Aligned.batch_alone(len(after))
        return Resized(self._spans(node, before)) if keeps_rank else _mixing(after)

    def _spans(self, node: Node, before: Shape) -> dict[int, Span]:
        """Return the positions that a Slice takes of each axis that it names."""
        starts, ends = (self.integers(node, key, i) for i, key in enumerate(("starts", "ends"), 1))
        if node.operator != "Slice" or starts is None or ends is None:
            return {}
        axes = self.integers(node, "axes", 3) or list(range(len(starts)))
        steps = self.integers(node, "steps", 4) or [1] * len(starts)
        found = {}
        for axis, *bounds in zip(axes, starts, ends, steps, strict=False):
            place = axis % len(before)
            taken = range(before[place])[slice(*bounds)]
            if taken:
                found[place] = min(taken), max(taken) + 1
        return found

    def _resized(self, node: Node, before: Shape, after: Shape) -> Flow:
        is_same_rank = len(before) == len(after)
        return Resized(repeats=node.rule.kind == "resize") if is_same_rank else _mixing(after)

    def _concatenated(self, node: Node, before: Shape, after: Shape) -> Flow:
        return Concatenated(int(node.attributes["axis"]))

    def _matrix_product(self, node: Node, before: Shape, after: Shape) -> Flow:
        second = SECOND_FACTOR.get(node.operator, 1)
        right = self.shape(node.inputs[second])
        if right is None or min(len(before), len(right), len(after)) < 2:
            return _mixing(after)
        return Aligned.matrix_product((len(before), len(right)), (0, second))

    def _gemm(self, node: Node, before: Shape, after: Shape) -> Flow:
        flips = bool(node.attributes.get("transA")), bool(node.attributes.get("transB"))
        second = SECOND_FACTOR.get(node.operator, 1)
        return Aligned.matrix_product((2, 2), (0, second), flips)

    def _einsum(self, node: Node, before: Shape, after: Shape) -> Flow:
        return Aligned.einsum(node.attributes["equation"], len(after))

    def _reduced(self, node: Node, before: Shape, after: Shape) -> Flow:
        if len(before) == len(after):
            axes = {
                i for i, sizes in enumerate(zip(before, after, strict=True)) if len({*sizes}) > 1
            }
            return Aligned.reduced(len(before), axes, keeps=True)
        return Aligned.reduced(len(before), self._reduced_axes(node, len(before)))

    def _reduced_axes(self, node: Node, rank: int) -> frozenset[int]:
        listed = self.integers(node, "axes", 1)
        if node.operator in ("ArgMax", "ArgMin"):
            listed = [int(node.attributes.get("axis", 0))]
        return frozenset(range(rank) if listed is None else (axis % rank for axis in listed))

    def _attended(self, node: Node, before: Shape, after: Shape) -> Flow:
        """Return the flow of an attention, which has one result for each query.

        If one input holds queries, keys and values, every result depends on all of its positions.
        """
        keys = node.inputs[1] if len(node.inputs) > 1 else ""
        is_packed = keys not in self.shapes or len(self.shapes[keys]) != len(before)
        mixed = frozenset(range(1, len(after))) if is_packed else frozenset()
        return Broadcast(mixes=mixed, positions=(0,))

    def _normalised(self, node: Node, before: Shape, after: Shape) -> Flow:
        axis = int(node.attributes.get("axis", -1)) if node.operator in LAYER_NORMS else 0
        return Broadcast(mixes=frozenset(range(axis % len(after), len(after))))

    def _mixed(self, node: Node, before: Shape, after: Shape) -> Flow:
        is_flattened = node.rule.since < SOFTMAX_OF_ONE_AXIS
        axis = int(node.attributes.get("axis", 1 if is_flattened else -1)) % len(after)
        return Broadcast(mixes=frozenset(range(axis, len(after)) if is_flattened else {axis}))

    def _degree(self, node: Node) -> float | None:
        """Return the degree of homogeneity in all inputs together, or None."""
        if node.operator == "Pow":
            exponent = self.statics.get(node.inputs[1])
            return None if exponent is None or exponent.size != 1 else float(exponent.item())
        return 1.0 if node.rule.homogeneous else POWERS.get(node.operator)

    def _dense(self, kind: Kind, node: Node) -> Dense | None:
        """Return the weights of a matrix product, or of a 1x1 convolution, or None."""
        if node.operator == "Gemm" and not node.attributes.get("transA"):
            scale = float(node.attributes.get("alpha", 1.0))
            return Dense(node.inputs[1], bool(node.attributes.get("transB")), scale)
        if node.operator == "MatMul":
            return Dense(node.inputs[1])
        if node.operator != "Conv":
            return None
        kernel = self.shape(node.inputs[1])
        is_single = kernel is not None and all(size == 1 for size in kernel[2:])
        is_dense = is_single and node.attributes.get("group", 1) == 1
        return Dense(node.inputs[1], is_transposed=True) if is_dense else None

    def _averages(self, node: Node) -> frozenset[int] | None:
        """Return the axes over which an operator takes the mean, or None."""
        before = self.shape(node.inputs[0]) if node.inputs else None
        if before is None:
            return None
        if node.operator == "ReduceMean":
            return self._reduced_axes(node, len(before))
        is_global = node.rule.kind == "global_average_pool"
        if is_global or (node.operator == "AveragePool" and self._covers_all(node, before)):
            return frozenset(range(2, len(before)))
        return None

    def _covers_all(self, node: Node, before: Shape) -> bool:
        """Return whether an average pool has a single window over the whole map."""
        after = self.shape(node.outputs[0]) or ()
        pads = node.attributes.get("pads") or [0] * 2 * len(before[2:])
        window = zip(node.attributes["kernel_shape"], pads, before[2:], strict=False)
        covers = all(kernel - pad >= size for kernel, pad, size in window)
        counts_pads = any(pads) and node.attributes.get("count_include_pad", 0)
        return covers and set(after[2:]) == {1} and not counts_pads


def _mixing(shape: Shape) -> Flow:
    """Return the flow of an operator of which any part may depend on all of its inputs."""
    return Broadcast(mixes=frozenset(range(len(shape))))


KINDS: Mapping[str, Kind] = {
    "average_pool": "pool",
    "global_average_pool": "pool",
    "global_max_pool": "max_pool",
}
"""The core's kinds for operators that `onnxjax` distinguishes in more detail."""

POWERS = {"Sqrt": 0.5, "Reciprocal": -1.0}
"""The degree of operators that are powers."""

SECOND_FACTOR = {"QLinearMatMul": 3, "QGemm": 3}
"""The input position of a product's second factor, if it is not 1."""

LAYER_NORMS = frozenset(
    "LayerNormalization RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization "
    "SkipSimplifiedLayerNormalization LpNormalization".split()
)
"""The operators that normalise the axes from `axis` on, the last if they have no such attribute."""

SOFTMAX_OF_ONE_AXIS = 13
"""The opset from which a softmax is over one axis, and no longer over all from it on."""

REORDERED_AXIS = {"Gather": 0, "GatherElements": 0, "TopK": -1}
"""The default axis of the operators that take positions of an axis in any order."""

FLOWS: Mapping[Kind, Callable[[NodeReader, Node, Shape, Shape], Flow]] = {
    "view": NodeReader._same_or_regrouped,
    "transpose": NodeReader._transposed,
    "slice": NodeReader._sliced,
    "pad": NodeReader._resized,
    "expand": NodeReader._resized,
    "resize": NodeReader._resized,
    "concat": NodeReader._concatenated,
    "matmul": NodeReader._matrix_product,
    "dense": NodeReader._gemm,
    "einsum": NodeReader._einsum,
    "reduce": NodeReader._reduced,
    "attention": NodeReader._attended,
    "norm": NodeReader._normalised,
    "softmax": NodeReader._mixed,
}
"""The flows of kinds that are not elementwise."""
