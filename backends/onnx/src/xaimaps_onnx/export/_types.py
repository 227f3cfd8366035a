"""The types of the values in the main graph of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.shape_inference import infer_shapes


def types_of(file: onnx.ModelProto) -> Mapping[str, np.dtype[Any]]:
    """Return the type of each value; one that ONNX cannot infer is taken to be float32."""
    graph = infer_shapes(_without_shapes(file)).graph
    types = {name: TensorProto.FLOAT for node in file.graph.node for name in node.output if name}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type or TensorProto.FLOAT
    types.update((tensor.name, tensor.data_type) for tensor in file.graph.initializer)
    return {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in types.items()}


def _without_shapes(file: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the declarations of inner values, which may be wrong."""
    copy = onnx.ModelProto()
    copy.CopyFrom(file)
    del copy.graph.value_info[:]
    return copy
