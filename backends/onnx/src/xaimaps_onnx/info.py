"""What an ONNX model says of itself beside its numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping

import onnx

from xaimaps._images.preprocess import get_preprocess
from xaimaps.backend import ModelInfo
from xaimaps_onnx.analysis import OnnxNetwork


def model_info(
    model: str | os.PathLike[str] | onnx.ModelProto, network: OnnxNetwork, output: str | None
) -> ModelInfo:
    """The name, labels, preprocessing and end of a model.

    Args:
        model: where it came from.
        network: what its graph says.
        output: the output that the user has named.
    """
    info = (
        ModelInfo("onnx model") if isinstance(model, onnx.ModelProto) else ModelInfo.of_file(model)
    )
    _read_metadata(info, network.model.metadata)
    if output is None:
        info.note_output([value.name for value in network.model.outputs])
    if (ending := network.usual.ending) is not None:
        info.note_ending(ending)
    return info


def _read_metadata(info: ModelInfo, metadata: Mapping[str, str]) -> None:
    """Take over what a file says of itself under our own keys."""
    info.name = metadata.get("xaimaps.name", info.name)
    info.labels_name = metadata.get("xaimaps.labels", "")
    if "xaimaps.preprocess" in metadata:
        info.preprocess = get_preprocess(metadata["xaimaps.preprocess"])
