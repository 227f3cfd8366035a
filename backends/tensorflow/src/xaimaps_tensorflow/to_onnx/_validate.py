"""Checks of graphs that tf2onnx writes without an error although nothing can run them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import onnx

from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow.to_onnx._fold import with_weights_as_inputs

COUNT = re.compile(r"_\d+$")


def require_known(proto: onnx.ModelProto) -> None:
    """Refuse operators that ONNX does not have, with the operator, node and layer."""
    (opset,) = (entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    unknown = [node for node in _all_nodes(proto.graph) if not _is_known(node, opset)]
    if unknown:
        node = unknown[0]
        rest = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UnsupportedModelError(
            f"the layer {_layer(node)!r} uses the TensorFlow operator {node.op_type} (node "
            f"{node.name!r}{rest}), which ONNX does not have; explain the model with the backend "
            "'tensorflow', or replace the layer"
        )


def _is_known(node: onnx.NodeProto, opset: int) -> bool:
    return node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type, opset, "")


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(attribute.g)


def _layer(node: onnx.NodeProto) -> str:
    """Return the path of the layer in a node's name `model_1/inner_1/layer_1/Operator`."""
    parts = node.name.split("/")[1:-1]
    return "/".join(COUNT.sub("", part) for part in parts) or node.name


def check_graph(proto: onnx.ModelProto, inputs: Collection[str]) -> None:
    """Run ONNX's checker on a graph without the data of its large weights.

    Raises:
        UnsupportedModelError: the graph is not valid, or has other inputs than the model.
    """
    names = [value.name for value in proto.graph.input]
    if {*names} != {*inputs}:
        raise UnsupportedModelError(
            f"the graph must have the inputs of the model, {', '.join(inputs)}, got "
            f"{', '.join(names) or 'none'}; explain the model with the backend 'tensorflow'"
        )
    try:
        onnx.checker.check_model(with_weights_as_inputs(proto), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = " ".join(str(error).split())[:300].rstrip(". ")
        raise UnsupportedModelError(
            f"tf2onnx wrote a graph that is not valid ({first}); explain the model with the "
            "backend 'tensorflow'"
        ) from error
