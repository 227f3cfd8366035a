"""Reading an ONNX file that nobody vouches for.

The order of the checks matters: the file itself, then its bytes, then where its external data
lie, then the graph's consistency; only then is a weight turned into an array. No check opens a
file outside the model's folder, and none makes an array of a size that the file merely claims.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError, Message

from xaimaps.errors import ModelLoadError, UnsupportedModelError, XaimapsError
from xaimaps_jax.onnx.external import is_external
from xaimaps_jax.onnx.limits import MODEL_BYTES, require_finite_calls
from xaimaps_jax.onnx.tensors import TensorReader

NEWEST = onnx.defs.onnx_opset_version()
OLDEST = 1
REMEDY = "export the model again"

BROKEN = (
    *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError, DecodeError, EncodeError),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError),
)
"""What protobuf, ONNX and numpy raise on a file that makes no sense; RuntimeError covers deep
recursion and what comes from C++, ValueError text that is not UTF-8."""


@dataclass(frozen=True)
class Source:
    """A model that has passed the checks, with its functions written out.

    Attributes:
        name: what messages call it.
        proto: the model, still without its external data.
        tensors: what makes arrays of its tensors.
    """

    name: str
    proto: onnx.ModelProto
    tensors: TensorReader


def read_model(model: str | os.PathLike[str] | onnx.ModelProto) -> Source:
    """Read a model and check all of it but the values of its weights.

    Args:
        model: a path, or a model in memory that holds its own weights.

    Raises:
        ModelLoadError: it is missing, damaged, inconsistent, or points outside its folder.
        UnsupportedModelError: its opset is outside what this version knows.
    """
    name = "the model" if isinstance(model, onnx.ModelProto) else repr(os.fspath(model))
    with refusing(name):
        if isinstance(model, onnx.ModelProto):
            return _from_memory(model, name)
        return _from_file(Path(model), name)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """The boundary: whatever a library finds wrong with a model is an error of ours.

    Args:
        name: what the message calls the model.

    Raises:
        ModelLoadError: in place of any error in `BROKEN`, which remains as its cause.
    """
    try:
        yield
    except XaimapsError:
        raise
    except BROKEN as error:
        raise ModelLoadError(
            f"the ONNX model {name} is not valid ({_summary(error)}); {REMEDY} or copy it again"
        ) from error


def _summary(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(". ")[:300]
    checked = isinstance(error, onnx.checker.ValidationError)
    return first if checked else f"{type(error).__name__}: {first}"


def _from_memory(model: onnx.ModelProto, name: str) -> Source:
    tensors = TensorReader(size=model.ByteSize())
    _check_text(model, name)
    _check_opset(model, name)
    _check_tensors(model, tensors)
    onnx.checker.check_model(model)
    own = onnx.ModelProto()
    own.CopyFrom(model)
    return _source(_inlined(own), name, tensors)


def _from_file(path: Path, name: str) -> Source:
    data = _read_bytes(path, name)
    proto = _parse(data, name)
    tensors = TensorReader(path.parent, len(data))
    _check_text(proto, name)
    _check_opset(proto, name)
    if _check_tensors(proto, tensors):
        del data
        onnx.checker.check_model(str(path))  # by its path, so that it looks at external data too
    else:
        onnx.checker.check_model(data)
        del data
    return _source(_inlined(proto), name, tensors)


def _source(proto: onnx.ModelProto, name: str, tensors: TensorReader) -> Source:
    if not proto.graph.output:
        raise ModelLoadError(f"the ONNX model {name} has no output; {REMEDY}")
    _check_values(proto.graph)
    return Source(name, proto, tensors)


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        _check_file(path.stat(), name)
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123
            _check_file(os.fstat(descriptor), name)
            return file.read(MODEL_BYTES)
    except OSError as error:
        raise ModelLoadError(
            f"cannot read the model {name}: {error.strerror}; check its path"
        ) from None


def _check_file(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ModelLoadError(f"a model must be a file, but {name} is not; name the .onnx file")
    if status.st_size == 0:
        raise ModelLoadError(f"the model {name} is an empty file; {REMEDY} or copy it again")
    if status.st_size > MODEL_BYTES:
        raise ModelLoadError(
            f"the model {name} has {status.st_size:,} bytes, more than the {MODEL_BYTES:,} that "
            "one file can hold; save it with its weights as external data"
        )


def _parse(data: bytes, name: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise _unreadable(name, str(error)) from None
    if not proto.graph.node and not proto.graph.output:
        raise _unreadable(name, "no graph in it")
    return proto


def _unreadable(name: str, problem: str) -> ModelLoadError:
    return ModelLoadError(
        f"{name} is not a readable ONNX file ({problem}); {REMEDY} or copy it again"
    )


def _check_text(message: Message, name: str) -> None:
    """Refuse names and notes that are not UTF-8, which protobuf hands on as bytes."""
    for field, content in message.ListFields():
        parts = [content] if isinstance(content, Message | str | bytes) else content
        if field.type == field.TYPE_MESSAGE:
            for part in parts:
                _check_text(part, name)
        elif field.type == field.TYPE_STRING and not all(isinstance(text, str) for text in parts):
            raise _unreadable(name, f"its {field.name} is not UTF-8")


def _check_opset(proto: onnx.ModelProto, name: str) -> None:
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None:
        raise ModelLoadError(f"{name} names no ONNX operator set; {REMEDY}")
    if not OLDEST <= opset <= NEWEST:
        raise UnsupportedModelError(
            f"{name} uses opset {opset}, outside {OLDEST}..{NEWEST}; {REMEDY} with opset 18"
        )


def _check_tensors(proto: onnx.ModelProto, tensors: TensorReader) -> bool:
    """Check sizes and places of all data; whether some lie in other files."""
    found = list(_tensors(proto))
    tensors.require_sound(found)
    return any(map(is_external, found))


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
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


def _check_values(graph: onnx.GraphProto, outer: frozenset[str] = frozenset()) -> None:
    """What ONNX's checker leaves out: that the functions compute what the graph reads of them."""
    known = {*outer, "", *(value.name for value in (*graph.input, *graph.initializer))}
    known.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        _require_known(node.input, known, f"the {node.op_type} node {node.name!r}")
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _check_values(attribute.g, frozenset(known))
        known.update(node.output)
    _require_known([value.name for value in graph.output], known, "the graph, as its output,")


def _require_known(names: Iterable[str], known: set[str], reader: str) -> None:
    for name in names:
        if name not in known:
            raise ModelLoadError(
                f"nothing computes the value {name!r} before {reader} reads it; {REMEDY}"
            )


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own; its weights make no detour through C++."""
    if not proto.functions:
        return proto
    require_finite_calls(proto)
    weights = list(proto.graph.initializer)
    _hollow(proto.graph.initializer, weights)
    result = onnx.inliner.inline_local_functions(proto)
    del result.graph.initializer[:]
    result.graph.initializer.extend(weights)
    return result


def _hollow(initializers: Any, weights: Sequence[onnx.TensorProto]) -> None:
    """Leave of each initialiser what keeps its name from being given to another value."""
    del initializers[:]
    for weight in weights:
        initializers.add(name=weight.name, data_type=weight.data_type, dims=[0])
