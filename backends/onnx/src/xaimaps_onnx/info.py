"""The name, labels and preprocessing of an ONNX model."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import onnx

from xaimaps._images.preprocess import Fit, get_preprocess
from xaimaps.backend import ModelInfo
from xaimaps_onnx._inputs import COLUMN
from xaimaps_onnx._single import BATCH
from xaimaps_onnx.analysis import OnnxNetwork

EXPORTED = "xaimaps.method"
"""The metadata with the method that an exported file computes."""


def model_info(
    model: str | os.PathLike[str] | onnx.ModelProto, network: OnnxNetwork, outputs: Sequence[str]
) -> ModelInfo:
    """Return the name, labels, preprocessing and ending of a model.

    Args:
        model: the path or the model that was loaded.
        network: the analysis of its graph.
        outputs: the outputs of which the first is explained.
    """
    info = (
        ModelInfo("onnx model") if isinstance(model, onnx.ModelProto) else ModelInfo.of_file(model)
    )
    info.input = network.input.name.removesuffix(COLUMN).removesuffix(BATCH)
    _read_metadata(info, network.model.metadata)
    if network.model.metadata.get("author") == "Ultralytics":
        _read_ultralytics(info, network.model.metadata)
    if "character" in network.model.metadata:
        _read_paddle(info, network)
    info.is_vector = network.input.name.endswith(COLUMN)
    info.note_output(outputs)
    if network.first_float != network.input.name:
        info.notes.append(
            f"the file takes images of integers, which become floats at {network.first_float!r}; "
            "they are given and explained as floats with the values of the integers"
        )
    if network.is_single_inside:
        info.notes.append("the file takes one image at a time, although it declares any number")
    if EXPORTED in network.model.metadata:
        info.notes.append(
            f"the file was exported by xaimaps and computes {network.model.metadata[EXPORTED]} "
            "itself; the original outputs are explained"
        )
    if (ending := network.usual.ending) is not None:
        info.note_ending(ending)
    if (step := network.usual.step) is not None:
        info.note_step(step)
    if (random := network.usual.random) is not None:
        info.note_random(random)
    return info


def _read_metadata(info: ModelInfo, metadata: Mapping[str, str]) -> None:
    """Read the metadata of a file under our own keys."""
    info.name = metadata.get("xaimaps.name", info.name)
    info.labels_name = metadata.get("xaimaps.labels", "")
    if "xaimaps.preprocess" in metadata:
        info.preprocess = get_preprocess(metadata["xaimaps.preprocess"])


def _read_ultralytics(info: ModelInfo, metadata: Mapping[str, str]) -> None:
    """Read the class names and the input that the exporter of Ultralytics records.

    Its values are Python literals; one that is not as expected is ignored.
    """
    with suppress(ValueError, SyntaxError, AttributeError, TypeError, KeyError):
        names = ast.literal_eval(metadata["names"])
        info.labels = tuple(str(names[index]) for index in range(len(names)))
    with suppress(ValueError, SyntaxError, TypeError, KeyError):
        height, width = map(int, ast.literal_eval(metadata["imgsz"]))
        info.input_size = height, width
    fit: Fit = "crop" if metadata.get("task") == "classify" else "pad"
    info.preprocess = replace(get_preprocess("unit"), fit=fit)


def _read_paddle(info: ModelInfo, network: OnnxNetwork) -> None:
    """Read the class names that PaddleX records in lines, if there is one for each class.

    A recogniser of text has more classes: the blank before the characters, and often a space after
    them.
    """
    names = tuple(network.model.metadata["character"].split("\n"))
    classes = network.usual.shapes.get(network.output, (0,))[-1]
    readings = (names, ("", *names), ("", *names, " "))
    info.labels = next((known for known in readings if len(known) == classes), None)
