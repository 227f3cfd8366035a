"""Keras to ONNX with all layer names; no file is written before a comparison with the model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from xaimaps_onnx._aliases import LAYERS

from xaimaps._results.atomic import write_atomic
from xaimaps.backend import ModelInfo
from xaimaps.errors import LayerError, UnsupportedModelError, nearest
from xaimaps_tensorflow.to_onnx._compare import logits, require_equal
from xaimaps_tensorflow.to_onnx._fold import fill, fold
from xaimaps_tensorflow.to_onnx._keras2 import is_keras_2, subject_of_keras_2
from xaimaps_tensorflow.to_onnx._match_layers import locate
from xaimaps_tensorflow.to_onnx._model import Subject, subject_of
from xaimaps_tensorflow.to_onnx._open import open_source
from xaimaps_tensorflow.to_onnx._probe import Probe, probe_keras, probe_onnx
from xaimaps_tensorflow.to_onnx._request import OPSETS, require_opset
from xaimaps_tensorflow.to_onnx._trace import trace
from xaimaps_tensorflow.to_onnx._validate import check_graph, require_known
from xaimaps_tensorflow.to_onnx._write import write_model

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Graph:
    """A graph without the data of its large weights, and these data."""

    proto: onnx.ModelProto
    weights: dict[str, Array]
    output: str


@dataclass(frozen=True)
class Conversion:
    """A converted model, and its comparison with the original.

    Attributes:
        graph: the model.
        difference: the largest relative difference between the outputs of ONNX Runtime and Keras.
        layers: the tensor of each layer.
        lost: the layers that have no tensor of their own.
    """

    graph: Graph
    difference: float
    layers: Mapping[str, str]
    lost: Sequence[str]

    def model(self) -> onnx.ModelProto:
        """Return the model in one piece; this conversion cannot be used afterwards."""
        fill(self.graph.proto, self.graph.weights)
        return self.graph.proto

    def write(self, file: BinaryIO) -> int:
        """Write the model's file, and return the number of bytes."""
        return write_model(file, self.graph.proto, self.graph.weights)

    def save(self, path: Path) -> None:
        """Write the model's file atomically."""
        write_atomic(path, self.write)


def convert(
    model: Any,
    *,
    layers: str | Sequence[str] | None = None,
    output: str | int | None = None,
    opset: int = 18,
    input_shape: Sequence[int | None] | None = None,
    info: ModelInfo | None = None,
    weights: str | os.PathLike[str] | None = None,
    allow_unsafe: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Convert a Keras model to ONNX.

    The file computes what the model computes in inference mode, with exactly the same weights. It
    has the model's layers by name: `--layer block5_conv3` works on it.

    Args:
        model: a live model of Keras 3 or tf_keras, the path of a `.keras` or `.h5` file, or the
            name of one of Keras's applications ("keras:VGG16").
        layers: a layer, or several, that must have a value in the graph; None for the layers whose
            values tf2onnx keeps, which are nearly all.
        output: the name or the index of one of several outputs.
        opset: the opset of the graph, from 13 to 18.
        input_shape: `(height, width, channels)` of a subclassed model that was never called.
        info: the name, labels and preprocessing to write into the file.
        weights: the file of weights for such a name; None for ImageNet's.
        allow_unsafe: whether to load a file that contains code.
        custom_objects: classes that a file names; for a live model of tf_keras, the layers of
            Keras 3 that replace its own layers.

    Raises:
        ModelLoadError: the file is missing, damaged or unsafe.
        UnsupportedModelError: the model cannot be converted; the message names the cause.
        LayerError: one of `layers` does not exist, or has no value of its own in the graph.
    """
    require_opset(opset)
    if isinstance(model, str | os.PathLike):
        model, known = open_source(
            model, weights=weights, allow_unsafe=allow_unsafe, custom_objects=custom_objects
        )
        info, custom_objects = info or known, None
    conversion = conversion_of(
        model,
        [layers] if isinstance(layers, str) else layers or (),
        opset,
        output=output,
        input_shape=input_shape,
        info=info,
        custom_objects=custom_objects,
    )
    return conversion.model()


def conversion_of(
    model: Any,
    layers: Sequence[str] = (),
    opset: int = OPSETS[-1],
    *,
    info: ModelInfo | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> Conversion:
    """Convert a live model; see `convert`, and `subject_of` for the options `chosen`."""
    if is_keras_2(model):
        subject = subject_of_keras_2(model, custom_objects=custom_objects, **chosen)
    else:
        subject = subject_of(model, **chosen)
    return converted(subject, layers, opset, info)


def converted(
    subject: Subject, layers: Sequence[str], opset: int, info: ModelInfo | None = None
) -> Conversion:
    """Trace, compare and locate the layers; trace again if a requested layer was not found."""
    probe = probe_keras(subject)
    wanted = [_path(name, probe.layers) for name in layers]
    graph, apart, located = _attempt(subject, (), opset, probe)
    if any(path not in located for path in wanted):
        owners = list({id(owner): owner for owner in map(probe.owners.get, wanted)}.values())
        graph, apart, located = _attempt(subject, owners, opset, probe)
    _require_located(wanted, located)
    _note(graph.proto, located, info or ModelInfo(subject.model.name))
    lost = [path for path in probe.layers if path not in located]
    return Conversion(graph, apart, located, lost)


def _attempt(
    subject: Subject, exposed: Sequence[Any], opset: int, probe: Probe
) -> tuple[Graph, float, dict[str, str]]:
    traced = trace(subject, exposed, opset)
    require_known(traced.proto)
    weights = fold(traced.proto, traced.weights, traced.output)
    graph = Graph(traced.proto, weights, traced.output)
    check_graph(graph.proto, probe.inputs)
    values = probe_onnx(graph.proto, graph.weights, probe.inputs)
    if graph.output not in values:
        raise UnsupportedModelError(
            f"the model's output {graph.output!r} does not depend on its inputs, so there is "
            "nothing to convert; choose another with `output`"
        )
    answers = values[graph.output], probe.output
    if _ends_in_softmax(graph) and not subject.is_half:
        answers = logits(*answers)
    apart = require_equal(*answers, subject.tolerance)
    return graph, apart, locate(graph.proto, values, probe.layers, subject.tolerance)


def _ends_in_softmax(graph: Graph) -> bool:
    ends = [node.op_type for node in graph.proto.graph.node if graph.output in node.output]
    return ends == ["Softmax"]


def _path(name: str, by_path: Mapping[str, Any]) -> str:
    """Return the path of a layer, given by its path or by its last part."""
    found = [name] if name in by_path else [p for p in by_path if p.rpartition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    problem = f"is that of several layers ({', '.join(found)})" if found else "is none of them"
    raise LayerError(
        f"`layers` must name layers of the model, but {name!r} {problem}{nearest(name, by_path)}"
    )


def _require_located(wanted: Sequence[str], located: Mapping[str, str]) -> None:
    lost = [path for path in wanted if path not in located]
    if lost:
        raise LayerError(
            f"the layer {lost[0]!r} has no single value of its own in the ONNX graph; choose the "
            "layer before or behind it"
        )


def _note(proto: onnx.ModelProto, located: Mapping[str, str], info: ModelInfo) -> None:
    """Write the layers, name, labels and preprocessing into the file's metadata."""
    notes = {"xaimaps.name": info.name, LAYERS: json.dumps(located)}
    if info.labels_name:
        notes["xaimaps.labels"] = info.labels_name
    if info.preprocess is not None:
        notes["xaimaps.preprocess"] = info.preprocess.name
    onnx.helper.set_model_props(proto, notes)
