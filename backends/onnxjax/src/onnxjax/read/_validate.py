"""Checks of a parsed model that need only the protobuf itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx
from google.protobuf.message import Message

from onnxjax.errors import ModelLoadError, UnsupportedModelError

NEWEST = onnx.defs.onnx_opset_version()
OLDEST = 1
REMEDY = "export the model again"


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
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None:
        raise ModelLoadError(f"{name} names no ONNX operator set; {REMEDY}")
    if not OLDEST <= opset <= NEWEST:
        raise UnsupportedModelError(
            f"{name} uses opset {opset}, outside {OLDEST}..{NEWEST}; {REMEDY} with opset 18"
        )


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


def check_values(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> None:
    """Refuse a graph, with its functions inlined, that reads a value which nothing computes.

    ONNX's checker does not check that a function computes all of its outputs.
    """
    known = {*outer, "", *(value.name for value in (*graph.input, *graph.initializer))}
    known.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        _require_known(node.input, known, f"the {node.op_type} node {node.name!r}")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                check_values(attribute.g, frozenset(known))
        known.update(node.output)
    _require_known([value.name for value in graph.output], known, "the graph, as its output,")


def _require_known(names: Iterable[str], known: set[str], reader: str) -> None:
    for name in names:
        if name not in known:
            raise ModelLoadError(
                f"nothing computes the value {name!r} before {reader} reads it; {REMEDY}"
            )
