"""Reading of ONNX files that are not trusted.

The order of the checks matters: first the file itself, then its bytes, then the locations of its
external data, then the consistency of the graph. Only then is a weight converted to an array. No
check opens a file outside the model's folder, and none allocates an array whose size the file
merely claims.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, EncodeError

from onnxjax._limits import MODEL_BYTES, require_finite_calls
from onnxjax.errors import ModelLoadError, OnnxJaxError
from onnxjax.read._external import is_external
from onnxjax.read._tensors import TensorReader
from onnxjax.read._validate import (
    REMEDY,
    all_tensors,
    check_opset,
    check_text,
    check_values,
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
    tensors = TensorReader(size=model.ByteSize())
    check_text(model, name)
    check_opset(model, name)
    _check_tensors(model, tensors)
    onnx.checker.check_model(model)
    own = onnx.ModelProto()
    own.CopyFrom(model)
    return _source(_inlined(own), name, tensors)


def _from_file(path: Path, name: str) -> Source:
    data = _read_bytes(path, name)
    proto = _parse(data, name)
    tensors = TensorReader(path.parent, len(data))
    check_text(proto, name)
    check_opset(proto, name)
    if _check_tensors(proto, tensors):
        del data
        onnx.checker.check_model(str(path))  # by its path, so that it checks external data too
    else:
        onnx.checker.check_model(data)
        del data
    return _source(_inlined(proto), name, tensors)


def _source(proto: onnx.ModelProto, name: str, tensors: TensorReader) -> Source:
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


def _check_tensors(proto: onnx.ModelProto, tensors: TensorReader) -> bool:
    """Check the size and location of all data, and return whether some are in other files."""
    found = list(all_tensors(proto))
    tensors.require_sound(found)
    return any(map(is_external, found))


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its functions inlined."""
    if not proto.functions:
        return proto
    require_finite_calls(proto)
    weights = list(proto.graph.initializer)  # kept apart, so that C++ does not copy them
    _hollow(proto.graph.initializer, weights)
    result = onnx.inliner.inline_local_functions(proto)
    del result.graph.initializer[:]
    result.graph.initializer.extend(weights)
    return result


def _hollow(initializers: Any, weights: Sequence[onnx.TensorProto]) -> None:
    """Replace initialisers by empty ones, which reserve their names in the inlined graph."""
    del initializers[:]
    for weight in weights:
        initializers.add(name=weight.name, data_type=weight.data_type, dims=[0])
