"""Reading an ONNX file that nobody vouches for.

The order of the checks matters: the file itself, then its bytes, then where its external data
lies, then the graph's consistency; only then is a weight turned into an array.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from xaimaps.errors import ModelLoadError, UnsupportedModelError

NEWEST = onnx.defs.onnx_opset_version()
OLDEST = 7
CONVERTED_FROM = 1
REMEDY = "export the model again"


def read_model(model: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """Read a model with all its weights, checked.

    Args:
        model: a path, or a model in memory that holds its own weights.

    Raises:
        ModelLoadError: it is missing, damaged, inconsistent, or points outside its folder.
        UnsupportedModelError: its opset is outside what this version knows.
    """
    if isinstance(model, onnx.ModelProto):
        _refuse_external(model)
        _check(model, "the model")
        return model
    path = Path(model)
    _check_file(path)
    proto = _parse(path)
    _check_opset(proto, str(path))
    _check_path(path)
    _load_external(proto, path)
    return proto


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise ModelLoadError(f"cannot read the model {str(path)!r}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelLoadError(
            f"a model must be a file, but {str(path)!r} is not; name the .onnx file"
        )
    if status.st_size == 0:
        raise ModelLoadError(f"the model {str(path)!r} is an empty file; {REMEDY} or copy it again")


def _parse(path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelLoadError(f"cannot read the model {str(path)!r}: {error.strerror}") from None
    except (DecodeError, ValueError) as error:
        raise ModelLoadError(
            f"{str(path)!r} is not a readable ONNX file ({error}); {REMEDY} or copy it again"
        ) from None
    if not proto.graph.node and not proto.graph.output:
        raise ModelLoadError(
            f"{str(path)!r} is not a readable ONNX file (no graph in it); {REMEDY}"
        )
    return proto


def _check_opset(proto: onnx.ModelProto, name: str) -> None:
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None:
        raise ModelLoadError(f"{name!r} names no ONNX operator set; {REMEDY}")
    if not CONVERTED_FROM <= opset <= NEWEST:
        raise UnsupportedModelError(
            f"{name!r} uses opset {opset}, outside {CONVERTED_FROM}..{NEWEST}; {REMEDY} with opset 18"
        )


def _check_path(path: Path) -> None:
    """Run the checker on the path, so that it looks at external data too."""
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise _inconsistent(str(path), error) from None


def _check(proto: onnx.ModelProto, name: str) -> None:
    _check_opset(proto, name)
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise _inconsistent(name, error) from None


def _inconsistent(name: str, error: Exception) -> ModelLoadError:
    first = str(error).strip().partition("\n")[0]
    return ModelLoadError(f"the ONNX model {name!r} is not valid ({first}); {REMEDY}")


def _load_external(proto: onnx.ModelProto, path: Path) -> None:
    try:
        onnx.load_external_data_for_model(proto, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ModelLoadError(
            f"the external weights of {str(path)!r} cannot be read ({error}); "
            "keep them in the model's own folder"
        ) from None


def _refuse_external(proto: onnx.ModelProto) -> None:
    for tensor in _tensors(proto):
        if onnx.external_data_helper.uses_external_data(tensor):
            raise ModelLoadError(
                f"the tensor {tensor.name!r} lies in another file; give the model's path, or load "
                "it with onnx.load(path)"
            )


def _tensors(proto: onnx.ModelProto) -> Any:
    return onnx.external_data_helper._get_all_tensors(proto)
