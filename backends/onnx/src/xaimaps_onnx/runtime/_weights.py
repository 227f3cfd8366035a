"""The weights of a model file outside of it, so that a part of the graph takes its own only."""

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
"""Elements from which a weight is worth taking out."""

TAKEN = frozenset(
    (
        *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE),
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64),
    )
)
"""Types that numpy itself has, and ONNX Runtime takes from it."""


def take_weights(source: Source, loaded: OnnxModel) -> dict[str, Array]:
    """Take the big weights out of a model; what is left holds all its other data itself.

    Args:
        source: the model, which is changed.
        loaded: the same model, whose arrays are taken where it has them.
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
    """Leave of a tensor its name, type and shape; its data are elsewhere."""
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
    tensor.dims.extend(dims)
    tensor.external_data.add(key="location", value="in memory")
