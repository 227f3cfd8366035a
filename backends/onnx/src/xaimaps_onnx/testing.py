"""Networks as ONNX models in the forms that exporters write."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from xaimaps.testing.networks import (
    Cells,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Network,
    Operation,
    ReLU,
)

Weight = np.ndarray[Any, Any]


def as_onnx(
    network: Network,
    *,
    channels_last: bool = False,
    end: str | None = None,
    batch: str | int = "N",
) -> onnx.ModelProto:
    """Write a network as an ONNX model whose layers have the same names.

    Args:
        network: the layers.
        channels_last: whether to write it as tf2onnx does, with channels last and transpositions
            around each convolution; else as PyTorch does, with channels first.
        end: a last activation, such as "Softmax".
        batch: the batch size of the file; a name for a size that varies.
    """
    graph = Graph(len(network.input_shape) - 1)
    add = graph.add_channels_last if channels_last else graph.add_planar
    for name, layer in network.layers.items():
        add(name, layer)
    if end is not None:
        graph.add(end, "answer")
    *size, channels = network.input_shape
    shape = (*size, channels) if channels_last else (channels, *size)
    is_detector = any(isinstance(layer, Cells) for layer in network.layers.values())
    return graph.model(batch, shape, 3 if is_detector else 2)


def _channels_first(kernel: Weight) -> Weight:
    """Return a kernel `(*spatial, in, out)` as `(out, in, *spatial)`."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


class Graph:
    """The nodes and weights of a model; `value` is the name of the last value.

    Args:
        rank: the number of spatial axes of the images.
    """

    def __init__(self, rank: int = 2) -> None:
        self.rank = rank
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []
        self.value = "images"

    def add(self, operator: str, output: str, *weights: Weight, **attributes: Any) -> None:
        """Append a node that reads the last value and these weights."""
        names = [f"{output}/{i}" for i in range(len(weights))]
        pairs = zip(weights, names, strict=True)
        self.weights += [numpy_helper.from_array(np.ascontiguousarray(w), n) for w, n in pairs]
        self.nodes.append(
            helper.make_node(operator, [self.value, *names], [output], output, **attributes)
        )
        self.value = output

    def add_planar(self, name: str, layer: Operation) -> None:
        """Append a layer with channels first."""
        match layer:
            case Conv():
                self.add("Conv", name, _channels_first(layer.kernel), layer.bias)
            case ReLU():
                self.add("Relu", name)
            case GlobalAveragePool():
                self.add("GlobalAveragePool", name)
                self.add("Flatten", f"{name}/flat")
            case Flatten():
                self.add("Flatten", name)
            case Cells():
                self.add("Transpose", f"{name}/last", perm=[0, 2, 3, 1])
                self.add("Reshape", name, np.array([0, -1, layer.channels]))
            case Dense():
                self.add("Gemm", name, layer.weights.T, layer.bias, transB=1)

    def add_channels_last(self, name: str, layer: Operation) -> None:
        """Append a layer with channels last."""
        match layer:
            case Conv():
                rank = layer.kernel.ndim - 2
                sides = range(1, rank + 1)
                self.add("Transpose", f"{name}/planar", perm=[0, rank + 1, *sides])
                self.add("Conv", name, _channels_first(layer.kernel), layer.bias)
                self.add("Transpose", f"{name}/last", perm=[0, *(side + 1 for side in sides), 1])
            case ReLU():
                self.add("Relu", name)
            case GlobalAveragePool():
                self.add("ReduceMean", name, np.arange(1, self.rank + 1), keepdims=0)
            case Flatten():
                self.add("Transpose", f"{name}/planar", perm=[0, 3, 1, 2])
                self.add("Reshape", name, np.array([0, -1]))
            case Cells():
                self.add("Reshape", name, np.array([0, -1, layer.channels]))
            case Dense():
                self.add("MatMul", f"{name}/product", layer.weights)
                self.add("Add", name, layer.bias)

    def model(self, batch: str | int, shape: tuple[int, ...], rank: int = 2) -> onnx.ModelProto:
        """Return the whole model, checked, whose outputs have `rank` axes."""
        images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *shape])
        output = helper.make_tensor_value_info(
            self.value, TensorProto.FLOAT, [batch, *[None] * (rank - 1)]
        )
        graph = helper.make_graph(self.nodes, "network", [images], [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 10
        onnx.checker.check_model(model, full_check=True)
        return model
