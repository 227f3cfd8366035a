"""Checks of a parsed model that need only the protobuf itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx
from google.protobuf.message import Message

from onnxjax.errors import ModelLoadError, UnsupportedModelError
from onnxjax.read._external import is_external
from onnxjax.read._nodes import all_nodes, subgraphs

NEWEST = onnx.defs.onnx_opset_version()
OLDEST = 1
REMEDY = "export the model again"

OWN = ("", "ai.onnx")
"""The names of ONNX's own operator set."""

UNCHECKED = "unchecked"
"""A domain that ONNX's checker does not know, so that it does not check its operators."""


def unreadable(name: str, problem: str) -> ModelLoadError:
    """Return the error for bytes that are not a model."""
    return ModelLoadError(
        f"{name} is not a readable ONNX file ({problem}); {REMEDY} or copy it again"
    )


def check_text(message: Message, name: str) -> None:
    """Refuse names and notes that are not UTF-8, which protobuf returns as bytes."""
    for field, content in message.ListFields():
        parts = [content] if isinstance(content, Message | str | bytes) else content
        if field.type == field.TYPE_MESSAGE:
            for part in parts:
                check_text(part, name)
        elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in parts):
            raise unreadable(name, f"its {field.name} is not UTF-8")


def check_opset(proto: onnx.ModelProto, name: str) -> None:
    """Refuse a version of ONNX's own operators that is not known here."""
    opset = _own_opset(proto)
    if opset is None:
        raise ModelLoadError(f"{name} names no ONNX operator set; {REMEDY}")
    if not OLDEST <= opset <= NEWEST:
        raise UnsupportedModelError(
            f"{name} uses opset {opset}, outside {OLDEST}..{NEWEST}; {REMEDY} with opset 18"
        )


def _own_opset(proto: onnx.ModelProto) -> int | None:
    return next((entry.version for entry in proto.opset_import if entry.domain in OWN), None)


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model, in any graph, attribute or function."""
    yield from _tensors_of(proto.graph)
    for function in proto.functions:
        yield from _attribute_tensors(function.node)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _attribute_tensors(graph.node)


def _attribute_tensors(nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        yield from attribute.tensors
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            yield from _tensors_of(graph)


def check_model(proto: onnx.ModelProto) -> None:
    """Check a model by ONNX's checker, except its weights and the operators unknown to ONNX.

    `TensorReader` checks the weights. ONNX Runtime writes some operators into opsets that do not
    have them yet, such as LayerNormalization into opset 14; the rules decide whether they can run.

    Raises:
        onnx.checker.ValidationError: the model is not valid.
    """
    bare = _without_weights(proto)
    opset = _own_opset(proto) or OLDEST
    for node in all_nodes(bare.graph.node):
        if node.domain in OWN and not onnx.defs.has(node.op_type, opset):
            node.domain = UNCHECKED
    bare.opset_import.add(domain=UNCHECKED, version=1)
    onnx.checker.check_model(bare)


def _without_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model in which tensors outside of nodes, or in other files, are empty."""
    whole = proto.graph
    graph = onnx.GraphProto(
        name=whole.name,
        node=whole.node,
        input=whole.input,
        output=whole.output,
        value_info=whole.value_info,
        sparse_initializer=whole.sparse_initializer,
    )
    reserve(graph, whole.initializer)
    bare = onnx.ModelProto(
        ir_version=proto.ir_version,
        opset_import=proto.opset_import,
        functions=proto.functions,
        graph=graph,
    )
    for tensor in filter(is_external, all_tensors(bare)):
        tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return bare


def reserve(graph: onnx.GraphProto, weights: Iterable[onnx.TensorProto]) -> None:
    """Add empty initialisers, which reserve the names of weights."""
    for weight in weights:
        graph.initializer.add(name=weight.name, data_type=weight.data_type, dims=[0])


def free_sizes(graph: onnx.GraphProto) -> None:
    """Remove sizes below one from the declared shapes, in place.

    They are those of axes of any size, as PaddlePaddle's exporter writes them.
    """
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_value") and size.dim_value < 1:
                size.Clear()


def check_values(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> None:
    """Refuse a graph, with its functions inlined, that reads a value which nothing computes.

    ONNX's checker does not check that a function computes all of its outputs.
    """
    known = {*outer, "", *(value.name for value in (*graph.input, *graph.initializer))}
    known.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        _require_known(node.input, known, f"the {node.op_type} node {node.name!r}")
        for body in subgraphs(node):
            check_values(body, frozenset(known))
        known.update(node.output)
    _require_known([value.name for value in graph.output], known, "the graph, as its output,")


def _require_known(names: Iterable[str], known: set[str], reader: str) -> None:
    for name in names:
        if name not in known:
            raise ModelLoadError(
                f"nothing computes the value {name!r} before {reader} reads it; {REMEDY}"
            )
