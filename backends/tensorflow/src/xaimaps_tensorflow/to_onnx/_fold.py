"""Insertion of weights into the graph, rearranged exactly as its nodes would do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxjax.read import needed
from xaimaps_onnx.runtime._weights import hollow

Array = np.ndarray[Any, Any]


def fold(proto: onnx.ModelProto, weights: Mapping[str, Array], output: str) -> dict[str, Array]:
    """Replace the inputs that are weights by initialisers without data, in place.

    Nodes that only rearrange a weight are computed here. Arithmetic stays in the graph, so that the
    file holds the model's own numbers.

    Args:
        proto: the graph; nodes that `output` does not need are removed.
        weights: the weights by the names of the graph's inputs.
        output: the one output to keep.

    Returns:
        The data of the new initialisers by name.
    """
    graph = proto.graph
    known = dict(weights)
    small = {t.name: t for t in graph.initializer}
    left = [node for node in graph.node if not _carried_out(node, known, small)]
    nodes, read = needed(left, (), [output])
    _replace(graph.node, nodes)
    _replace(graph.initializer, [t for t in graph.initializer if t.name in read])
    _replace(graph.input, [v for v in graph.input if v.name not in weights])
    _replace(graph.output, [v for v in graph.output if v.name == output])
    del graph.value_info[:]
    used = {name: np.ascontiguousarray(a) for name, a in known.items() if name in read}
    graph.initializer.extend(_hollow_tensors(used))
    return used


def _replace(field: Any, content: list[Any]) -> None:
    content = list(content)
    del field[:]
    field.extend(content)


def _carried_out(
    node: onnx.NodeProto, known: dict[str, Array], small: Mapping[str, onnx.TensorProto]
) -> bool:
    """Return whether a node only rearranges a weight; if so, add its result to `known`."""
    if not node.input or node.input[0] not in known:
        return False
    others = [name for name in node.input[1:] if name]
    if not all(name in small for name in others):
        return False
    result = _rearranged(node, known[node.input[0]], [_ints(small[name]) for name in others])
    if result is not None:
        known[node.output[0]] = result
    return result is not None


def _ints(tensor: onnx.TensorProto) -> list[int]:
    return [int(value) for value in np.ravel(numpy_helper.to_array(tensor))]


def _rearranged(node: onnx.NodeProto, weight: Array, given: list[list[int]]) -> Array | None:
    """Return a view of the weight, or None for any other operator."""
    match node.op_type:
        case "Identity":
            return weight
        case "Transpose":
            return weight.transpose(_attribute(node, "perm", None))
        case "Reshape" if not _attribute(node, "allowzero", 0):
            sizes = [weight.shape[i] if n == 0 else n for i, n in enumerate(given[0])]
            return weight.reshape(sizes)
        case "Squeeze":
            return np.squeeze(weight, tuple(given[0]) if given else None)
        case "Unsqueeze":
            return np.expand_dims(weight, tuple(given[0]))
    return None


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default


def _hollow_tensors(weights: Mapping[str, Array]) -> Iterator[TensorProto]:
    for name, array in weights.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=array.shape)
        hollow(tensor)
        yield tensor


def with_weights_as_inputs(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph in which initialisers without data are inputs."""
    own = onnx.ModelProto()
    own.CopyFrom(proto)
    for tensor in [t for t in own.graph.initializer if t.data_location == TensorProto.EXTERNAL]:
        declared = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        own.graph.input.append(declared)
        own.graph.initializer.remove(tensor)
    return own


def fill(proto: onnx.ModelProto, weights: dict[str, Array]) -> None:
    """Write the data into a graph, and free each array afterwards."""
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = weights.pop(tensor.name).tobytes()
