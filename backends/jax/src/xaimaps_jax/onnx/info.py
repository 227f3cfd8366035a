"""What an ONNX model says of itself beside its numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import onnx

from xaimaps.backend import ModelInfo
from xaimaps.preprocess import get_preprocess
from xaimaps_jax.onnx.analysis import Analysis


def model_info(model: str | os.PathLike[str] | onnx.ModelProto, analysis: Analysis) -> ModelInfo:
    """The name, labels, preprocessing and end of a model.

    Args:
        model: where it came from.
        analysis: what its graph says.
    """
    info = ModelInfo("onnx model") if isinstance(model, onnx.ModelProto) else _file_info(model)
    _read_metadata(info, analysis.model.metadata)
    if analysis.activation is not None:
        info.ending = "sigmoid" if analysis.activation.operator == "Sigmoid" else "softmax"
        info.notes.append(
            f"scores are taken before the final {analysis.activation.operator} "
            f"{analysis.activation.name!r}"
        )
    return info


def _file_info(path: str | os.PathLike[str]) -> ModelInfo:
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelInfo(name=Path(path).stem, source=os.fspath(path), sha256=digest)


def _read_metadata(info: ModelInfo, metadata: Mapping[str, str]) -> None:
    """Take over what a file says of itself under our own keys."""
    info.name = metadata.get("xaimaps.name", info.name)
    info.labels_name = metadata.get("xaimaps.labels", "")
    if "xaimaps.preprocess" in metadata:
        info.preprocess = get_preprocess(metadata["xaimaps.preprocess"])
