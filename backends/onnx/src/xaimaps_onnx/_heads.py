"""The end of a classifier: its last activation, and the pooling and dense layer before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from onnxjax.graph import Graph, Node

from xaimaps.errors import LayerError
from xaimaps_onnx._axes import Axes, Shape, kind_of
from xaimaps_onnx._axis_rules import takes_all

VIEWS = frozenset({"Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that hand their first input on, in another shape at most."""

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
ENDS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
DENSE = frozenset({"Gemm", "MatMul", "Conv"})
POOLS = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean"})


class Head(NamedTuple):
    """A pooling layer and the dense one behind it.

    Attributes:
        layer: the value that is pooled.
        weights: the name of the dense weights; None where the pooled channels are the classes.
        is_transposed: whether the weights are (classes, channels).
        scale: what they are multiplied by.
    """

    layer: str
    weights: str | None
    is_transposed: bool = False
    scale: float = 1.0

    def matrix(self, weights: Any) -> Any:
        """The dense weights as (channels, classes), of the array that `weights` names."""
        weights = weights.reshape(weights.shape[:2])  # a convolution's have two axes more
        return self.scale * (weights.T if self.is_transposed else weights)


@dataclass(frozen=True)
class HeadFinder:
    """Walks back from the output.

    Attributes:
        graph: the graph.
        weights: parameters and constants by name, and what else is static.
        axes: the meaning of each value's axes.
        shapes: of the values that depend on the images.
    """

    graph: Graph
    weights: Mapping[str, Any]
    axes: Mapping[str, Axes]
    shapes: Mapping[str, Shape]

    def find(self, logits: str) -> Head:
        """The head that makes the logits.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        last = self._last(logits)
        if last.operator in POOLS and self._pools_globally(last):
            return Head(self._pooled(last), None)
        self._require_dense(last)
        pool = self.graph.producers.get(self._behind(last.inputs[0]))
        if pool is None or not self._pools_globally(pool):
            raise LayerError(_no_head(f"{last.operator} {last.name!r} does not follow the pooling"))
        is_conv = last.operator == "Conv"
        transposed = is_conv or bool(last.attributes.get("transB", 0))
        scale = float(last.attributes.get("alpha", 1.0)) if last.operator == "Gemm" else 1.0
        return Head(self._pooled(pool), last.inputs[1], transposed, scale)

    def _last(self, logits: str) -> Node:
        """The node that makes the logits, apart from views and a bias."""
        for node in self._back_from(logits):
            if node.operator not in VIEWS | QUANTIZERS | {"Add", "Transpose"}:
                return node
        raise LayerError(_no_head("the logits are the input"))

    def _back_from(self, name: str) -> Iterator[Node]:
        """The producers of a value, of its data input, and so on, while there is just one."""
        while node := self.graph.producers.get(name):
            yield node
            data = [i for i in node.reads if i not in self.weights]
            if len(data) > 1 and node.operator == "Add":
                raise LayerError(_no_head(f"the logits come from {node.operator} {node.name!r}"))
            name = data[0]

    def _require_dense(self, node: Node) -> None:
        if node.operator not in DENSE or node.inputs[1] not in self.weights:
            raise LayerError(_no_head(f"the logits come from {node.operator} {node.name!r}"))
        if node.operator == "Conv":
            shape = self.weights[node.inputs[1]].shape
            if any(n != 1 for n in shape[2:]) or node.attributes.get("group", 1) != 1:
                raise LayerError(_no_head(f"Conv {node.name!r} is no dense layer"))

    def _behind(self, name: str) -> str:
        while (node := self.graph.producers.get(name)) and self._is_view(node):
            name = node.inputs[0]
        return name

    def _is_view(self, node: Node) -> bool:
        if node.operator == "Gather":  # as PyTorch's exporter writes as_strided
            return takes_all(self.shapes[node.inputs[0]], self.weights.get(node.inputs[1]))
        return node.operator in VIEWS | QUANTIZERS | {"Transpose"}

    def _pooled(self, pool: Node) -> str:
        """What is pooled, before it was transposed."""
        name = pool.inputs[0]
        while (node := self.graph.producers.get(name)) and node.operator in (
            "Transpose",
            "Identity",
        ):
            name = node.inputs[0]
        return name

    def _pools_globally(self, node: Node) -> bool:
        axes = self.axes.get(node.inputs[0])
        if axes is None or node.operator not in POOLS:
            return False
        if node.operator == "ReduceMean":
            places = {place for place, axis in enumerate(axes) if kind_of(axis) in "HWS"}
            return bool(places) and self._reduced(node, len(axes)) == places
        return node.operator == "GlobalAveragePool" or self._covers_all(node)

    def _reduced(self, node: Node, rank: int) -> set[int]:
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            axes = self.weights.get(node.inputs[1])
        return set() if axes is None else {int(axis) % rank for axis in np.ravel(axes)}

    def _covers_all(self, node: Node) -> bool:
        """Whether an average pool has one window, which is the whole map."""
        before, after = self.shapes[node.inputs[0]][2:], self.shapes[node.outputs[0]][2:]
        pads = node.attributes.get("pads") or [0] * 2 * len(before)
        window = zip(node.attributes["kernel_shape"], pads, before, strict=False)
        covers = all(kernel - pad >= size for kernel, pad, size in window)
        counts_pads = any(pads) and node.attributes.get("count_include_pad", 0)
        return covers and set(after) == {1} and not counts_pads


def last_activation(graph: Graph, output: str) -> tuple[Node | None, frozenset[str]]:
    """The softmax or sigmoid that a model ends in, and what to bypass to see its logits."""
    bypassed, name = set(), output
    while (node := graph.producers.get(name)) and node.operator in VIEWS | QUANTIZERS:
        if node.operator in QUANTIZERS:  # made for values from 0 to 1
            bypassed.add(name)
        name = node.inputs[0]
    if node is None or node.operator not in ENDS:
        return None, frozenset()
    return node, frozenset({*bypassed, node.outputs[0]})


def _no_head(found: str) -> str:
    return (
        "CAM needs a model that ends in global average pooling and one dense layer, but here "
        f"{found}; use grad_cam"
    )
