"""Keras to ONNX, with every layer's name, and no file that was not compared with its model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from xaimaps_jax.onnx.names import LAYERS

from xaimaps.backend import ModelInfo
from xaimaps.errors import LayerError, UnsupportedModelError, nearest
from xaimaps_onnx.checking import check_graph, require_known
from xaimaps_onnx.folding import fill, fold
from xaimaps_onnx.locating import difference, locate
from xaimaps_onnx.probing import Probe, probe_keras, probe_onnx
from xaimaps_onnx.subjects import Subject, subject_of
from xaimaps_onnx.tracing import trace

Array = np.ndarray[Any, Any]

EXACT = 1e-4
HALF = 3e-2


@dataclass(frozen=True)
class Conversion:
    """A converted model, and what was measured of it.

    Attributes:
        proto: the model.
        difference: the largest between the outputs of ONNX Runtime and of Keras, relative.
        layers: the tensor of each layer.
        n_layers: how many layers the model has.
    """

    proto: onnx.ModelProto
    difference: float
    layers: Mapping[str, str]
    n_layers: int


@dataclass(frozen=True)
class Graph:
    """A graph that has no data for its big weights, and these."""

    proto: onnx.ModelProto
    weights: dict[str, Array]
    output: str


def convert(
    model: Any,
    *,
    layers: Sequence[str] | None = None,
    output: str | None = None,
    opset: int = 18,
    input_shape: Sequence[int | None] | None = None,
    info: ModelInfo | None = None,
    allow_unsafe: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Convert a Keras model to ONNX.

    The file computes what the model computes in inference mode, with the same weights bit for
    bit, and knows the model's layers by name: `--layer block5_conv3` works on it.

    Args:
        model: a live Keras 3 model, or the path of a `.keras` or `.h5` file.
        layers: layers that the file must know; None for those that its graph has anyway, which
            is nearly all.
        output: the name of one of several outputs.
        opset: of the graph, up to 18.
        input_shape: `(height, width, channels)` of a subclassed model that was never called.
        info: the name, labels and preprocessing to note in the file.
        allow_unsafe: load a file with code in it.
        custom_objects: classes that a file names.

    Raises:
        ModelLoadError: the file is missing, damaged or unsafe.
        UnsupportedModelError: the model cannot be converted; a part to blame is named.
        LayerError: one of `layers` does not exist, or has no value of its own in the graph.
    """
    if isinstance(model, str | os.PathLike):
        model = read(Path(model), allow_unsafe=allow_unsafe, custom_objects=custom_objects)
    subject = subject_of(model, output=output, input_shape=input_shape)
    return converted(subject, layers or (), opset, info).proto


def read(
    path: Path, *, allow_unsafe: bool = False, custom_objects: Mapping[str, Any] | None = None
) -> Any:
    """A Keras model from a file that nobody vouches for."""
    from xaimaps_tensorflow.files import read_model

    return read_model(path, allow_unsafe=allow_unsafe, custom_objects=custom_objects)


def converted(
    subject: Subject, layers: Sequence[str], opset: int, info: ModelInfo | None = None
) -> Conversion:
    """Trace, compare, look for the layers; trace again if a layer that is wanted was not there."""
    probe = probe_keras(subject)
    wanted = [_path(name, probe.layers) for name in layers]
    graph, apart, located = _attempt(subject, (), opset, probe)
    if any(path not in located for path in wanted):
        owners = list({id(owner): owner for owner in map(probe.owners.get, wanted)}.values())
        graph, apart, located = _attempt(subject, owners, opset, probe)
    _require_located(wanted, located)
    _note(graph.proto, located, info or ModelInfo(subject.model.name))
    fill(graph.proto, graph.weights)
    return Conversion(graph.proto, apart, located, len(probe.layers))


def _attempt(
    subject: Subject, exposed: Sequence[Any], opset: int, probe: Probe
) -> tuple[Graph, float, dict[str, str]]:
    traced = trace(subject, exposed, opset)
    require_known(traced.proto)
    weights = fold(traced.proto, traced.weights, traced.output)
    graph = Graph(traced.proto, weights, traced.output)
    check_graph(graph.proto)
    values = probe_onnx(graph.proto, graph.weights, probe.images)
    tolerance = HALF if subject.is_half else EXACT
    apart = _require_equal(values[graph.output], probe.output, tolerance)
    return graph, apart, locate(graph.proto, values, probe.layers, tolerance)


def _require_equal(found: Array, expected: Array, tolerance: float) -> float:
    apart = difference(found, expected, expected) if found.shape == expected.shape else np.inf
    if not apart <= tolerance:
        raise UnsupportedModelError(
            f"the converted model must answer as the Keras model does, up to {tolerance:g} of the "
            f"largest output, but they differ by {apart:.2g}, so there is no file; explain the "
            "model with the backend 'tensorflow'"
        )
    return apart


def _path(name: str, by_path: Mapping[str, Any]) -> str:
    """The path of a layer that is named by it, or by its last part."""
    found = [name] if name in by_path else [p for p in by_path if p.rpartition("/")[2] == name]
    if len(found) == 1:
        return found[0]
    problem = f"stands for several ({', '.join(found)})" if found else "is none of them"
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
    """Write into the file what it should say of itself."""
    notes = {"xaimaps.name": info.name, LAYERS: json.dumps(located)}
    if info.labels_name:
        notes["xaimaps.labels"] = info.labels_name
    if info.preprocess is not None:
        notes["xaimaps.preprocess"] = info.preprocess.name
    onnx.helper.set_model_props(proto, notes)
