"""Separation of a model's weights, so that a session for a part of the graph has only its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnxjax._model import OnnxModel
from onnxjax.read._external import is_external
from onnxjax.read._file import Source
from onnxjax.read._validate import all_tensors

Array = np.ndarray[Any, Any]

BIG = 1024
"""The smallest number of elements of a weight that is separated."""

TAKEN = frozenset(
    (
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE),
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64),
    )
)
"""Types that numpy has, and that ONNX Runtime accepts from it."""


def take_weights(source: Source, loaded: OnnxModel) -> dict[str, Array]:
    """Separate the large weights from a model, in place, and return them by name.

    Afterwards, the model contains all of its other data, even those that were in other files.

    Args:
        source: the model, which is modified.
        loaded: the same model with arrays, which are used if it has them.
    """
    weights = {}
    for tensor in source.proto.graph.initializer:
        if tensor.data_type in TAKEN and np.prod(tensor.dims) >= BIG:
            array = loaded.params.get(tensor.name)
            weights[tensor.name] = source.tensors.array(tensor) if array is None else array
            hollow(tensor)
    for tensor in all_tensors(source.proto):
        if is_external(tensor) and tensor.name not in weights:
            tensor.CopyFrom(numpy_helper.from_array(source.tensors.array(tensor), tensor.name))
    return weights


def hollow(tensor: onnx.TensorProto) -> None:
    """Remove a tensor's data, in place; its name, type and shape remain."""
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
    tensor.dims.extend(dims)
    tensor.external_data.add(key="location", value="in memory")
