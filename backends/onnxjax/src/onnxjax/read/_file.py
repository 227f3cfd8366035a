"""Reading of ONNX files that are not trusted.

The order of the checks matters: first the file itself, then its bytes, then the locations of its
external data, then the consistency of the graph. Only then is a weight converted to an array. No
check opens a file outside the model's folder, and none allocates an array whose size the file
merely claims.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError

from onnxjax._limits import MODEL_BYTES, require_finite_calls
from onnxjax.errors import ModelLoadError, OnnxJaxError
from onnxjax.read._nodes import keep, needed, require_value, sort
from onnxjax.read._tensors import TensorReader
from onnxjax.read._validate import (
    REMEDY,
    all_tensors,
    check_model,
    check_opset,
    check_text,
    check_values,
    free_sizes,
    reserve,
    unreadable,
)

BROKEN = (
    *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError, DecodeError, EncodeError),
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, TypeError, ValueError),
)
"""The errors of protobuf, ONNX and numpy on an invalid file.

RuntimeError covers deep recursion and errors from C++; ValueError covers text that is not UTF-8.
"""


@dataclass(frozen=True)
class Source:
    """A model that has passed the checks, with its functions inlined.

    Attributes:
        name: the model's name in messages.
        proto: the model, without its external data.
        tensors: the reader that converts its tensors to arrays.
    """

    name: str
    proto: onnx.ModelProto
    tensors: TensorReader

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(value.name for value in self.proto.graph.output)

    def until(self, output: str | None, *, alone: bool = True) -> Source:
        """Return the part of the model, in place, that computes one value, which comes first.

        Args:
            output: the name of any value that the graph computes; None for the first output.
            alone: whether to remove the other outputs. Otherwise those stay that can be computed
                from the same inputs, if they are tensors.

        Raises:
            ArrayInputError: no node computes a value of this name.
        """
        graph, output = self.proto.graph, output or self.outputs[0]
        require_value(graph, output)
        wanted = [output] if alone else [output, *self._beside(output)]
        declared = {value.name: value for value in graph.output}
        nodes, read = needed(graph.node, (), wanted)
        del graph.node[:], graph.output[:]
        graph.node.extend(nodes)
        graph.output.extend(declared.get(one, onnx.ValueInfoProto(name=one)) for one in wanted)
        keep(graph.input, lambda value: value.name in read)
        keep(graph.initializer, lambda tensor: tensor.name in read)
        return self

    def _beside(self, output: str) -> list[str]:
        """Return the other outputs, if tensors, that need no other inputs than one value does."""
        graph = self.proto.graph
        inputs = {value.name for value in graph.input}
        given = inputs & needed(graph.node, (), [output])[1]
        tensors = (value.name for value in graph.output if value.type.HasField("tensor_type"))
        others = (name for name in tensors if name != output)
        return [one for one in others if inputs & needed(graph.node, (), [one])[1] <= given]


def read_model(model: str | os.PathLike[str] | onnx.ModelProto) -> Source:
    """Read a model and check all of it except the values of its weights.

    Args:
        model: a path, or a model in memory that holds its own weights.

    Raises:
        ModelLoadError: it is missing, damaged, inconsistent, or refers to a file outside its
            folder.
        UnsupportedModelError: this version does not know its opset.
    """
    name = "the model in memory" if isinstance(model, onnx.ModelProto) else repr(os.fspath(model))
    with refusing(name):
        if isinstance(model, onnx.ModelProto):
            return _from_memory(model, name)
        return _from_file(Path(model), name)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Convert a library's error about a model to a `ModelLoadError`.

    Args:
        name: the model's name in the message.

    Raises:
        ModelLoadError: instead of any error in `BROKEN`, which is kept as its cause.
    """
    try:
        yield
    except OnnxJaxError:
        raise
    except BROKEN as error:
        raise ModelLoadError(
            f"{name} is not valid as an ONNX model ({_summary(error)}); {REMEDY} or copy it again"
        ) from error


def _summary(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(". ")[:300]
    checked = isinstance(error, onnx.checker.ValidationError)
    return first if checked else f"{type(error).__name__}: {first}"


def _from_memory(model: onnx.ModelProto, name: str) -> Source:
    own = onnx.ModelProto()
    own.CopyFrom(model)
    return _checked(own, name, TensorReader(size=model.ByteSize()))


def _from_file(path: Path, name: str) -> Source:
    data = _read_bytes(path, name)
    proto, tensors = _parse(data, name), TensorReader(path.parent, len(data))
    del data
    return _checked(proto, name, tensors)


def _checked(proto: onnx.ModelProto, name: str, tensors: TensorReader) -> Source:
    check_text(proto, name)
    check_opset(proto, name)
    tensors.require_sound(all_tensors(proto))
    for owner in (proto.graph, *proto.functions):
        sort(owner.node)
    free_sizes(proto.graph)
    check_model(proto)
    proto = _inlined(proto)
    if not proto.graph.output:
        raise ModelLoadError(f"{name} has no output; {REMEDY}")
    check_values(proto.graph)
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
        raise unreadable(name, str(error)) from None
    if not proto.graph.node and not proto.graph.output:
        raise unreadable(name, "no graph in it")
    return proto


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions inlined."""
    if not proto.functions:
        return proto
    require_finite_calls(proto)
    weights = list(proto.graph.initializer)  # kept apart, so that C++ does not copy them
    del proto.graph.initializer[:]
    reserve(proto.graph, weights)
    result = onnx.inliner.inline_local_functions(proto)
    del result.graph.initializer[:]
    result.graph.initializer.extend(weights)
    return result
