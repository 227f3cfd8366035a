"""The embedded network as a Keras model, converted from the embedded ONNX file.

Keras allows no `/` in a layer's name. Therefore `stem/conv` is the layer `conv` inside the model
`stem`, so that a layer has the same name in every framework.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import keras
import numpy as np
import onnx
from onnx import helper, numpy_helper

from xaimaps import zoo
from xaimaps._images.preprocess import get_preprocess
from xaimaps.backend import ModelInfo

Array = np.ndarray[Any, np.dtype[np.float32]]
Weights = Mapping[str, Array]

SIZE = (224, 224, 3)
SIX = 6.0


def efficientnet_lite0() -> tuple[Any, ModelInfo]:
    """Build EfficientNet-Lite0 with exactly the embedded weights; its outputs are logits.

    Returns:
        The Keras model, and the information in the file's metadata.
    """
    path = zoo.MODELS["default"]
    content = path.read_bytes()
    proto = onnx.load_model_from_string(content)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    info = ModelInfo(
        name=said["xaimaps.name"],
        source=str(path),
        sha256=hashlib.sha256(content).hexdigest(),
        labels_name=said["xaimaps.labels"],
        preprocess=get_preprocess(said["xaimaps.preprocess"]),
    )
    return _build(proto.graph, info.name), info


def _build(graph: onnx.GraphProto, name: str) -> Any:
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    images = keras.Input(SIZE, name="images")
    x = images
    for prefix, group in groupby(graph.node, lambda node: node.name.rpartition("/")[0]):
        nodes = list(group)
        x = _submodel(nodes, prefix, weights, x.shape[1:])(x) if prefix else _run(nodes, weights, x)
    return keras.Model(images, x, name=name)


def _submodel(
    nodes: Sequence[onnx.NodeProto], name: str, weights: Weights, shape: tuple[int, ...]
) -> Any:
    """Return a model of the nodes with one prefix, whose only input is the value before them."""
    x = keras.Input(shape, name=f"{name}_input")
    with keras.name_scope(name):  # so that the weights have the whole name, too
        return keras.Model(x, _run(nodes, weights, x), name=name)


def _run(nodes: Sequence[onnx.NodeProto], weights: Weights, x: Any) -> Any:
    """Add the layers of a chain of nodes; an `Add` also reads the input of the chain."""
    first = x
    for node in nodes:
        layer = _layer(node, weights)
        if layer is None:
            continue
        x = layer([x, first]) if node.op_type == "Add" else layer(x)
        layer.set_weights(_values(node, weights))
    return x


def _layer(node: onnx.NodeProto, weights: Weights) -> Any:
    name = node.name.rpartition("/")[2]
    match node.op_type:
        case "Conv":
            return _convolution(node, name, weights[node.input[1]].shape)
        case "BatchNormalization":
            epsilon = helper.get_node_attr_value(node, "epsilon")
            return keras.layers.BatchNormalization(epsilon=epsilon, name=name)
        case "Clip":
            return keras.layers.ReLU(max_value=SIX, name=name)
        case "Add":
            return keras.layers.Add(name=name)
        case "GlobalAveragePool":
            return keras.layers.GlobalAveragePooling2D(name=name)
        case "Gemm":
            return keras.layers.Dense(len(weights[node.input[1]]), name=node.output[0])
    return None  # Flatten: Keras's pooling already returns vectors


def _convolution(node: onnx.NodeProto, name: str, shape: tuple[int, ...]) -> Any:
    """Return a convolution; for this network's sizes, the file's pads equal those of "same"."""
    options: dict[str, Any] = {"use_bias": False, "padding": "same", "name": name}
    options["strides"] = helper.get_node_attr_value(node, "strides")[0]
    if helper.get_node_attr_value(node, "group") > 1:
        return keras.layers.DepthwiseConv2D(shape[2:], **options)
    return keras.layers.Conv2D(shape[0], shape[2:], **options)


def _values(node: onnx.NodeProto, weights: Weights) -> list[Array]:
    """Return a node's weights in Keras's order and layout."""
    values = [weights[name] for name in node.input if name in weights]
    match node.op_type:
        case "Conv":
            depthwise = helper.get_node_attr_value(node, "group") > 1
            return [values[0].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))]
        case "Gemm":
            return [values[0].T, values[1]]
        case "Clip":
            return []
    return values
