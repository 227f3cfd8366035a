"""Writing a model whose weights are still where the framework has them, without a copy of them.

protobuf would make three: in the message, in its encoding, and in Python's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto

Array = np.ndarray[Any, Any]

GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def write_model(file: BinaryIO, proto: onnx.ModelProto, weights: Mapping[str, Array]) -> int:
    """Write a graph, with the data of its hollow initialisers in place, as one message.

    Args:
        file: what is written to.
        proto: the graph.
        weights: the data by name, each contiguous.

    Returns:
        How many bytes that took.
    """
    model, graph = onnx.ModelProto(), onnx.GraphProto()
    model.CopyFrom(proto)
    graph.CopyFrom(proto.graph)
    model.ClearField("graph")
    graph.ClearField("initializer")
    tensors = [_parts(tensor, weights) for tensor in proto.graph.initializer]
    inner = [graph.SerializeToString(), *(p for tensor in tensors for p in tensor)]
    size = sum(map(_size, inner))
    parts = [model.SerializeToString(), _prefix(GRAPH, size), *inner]
    for part in parts:
        file.write(memoryview(part).cast("B") if _size(part) else b"")
    return sum(map(_size, parts))


def _parts(tensor: TensorProto, weights: Mapping[str, Array]) -> list[Any]:
    """An initialiser as a field of its graph."""
    array = weights.get(tensor.name)
    if array is None:
        whole = tensor.SerializeToString()
        return [_prefix(INITIALIZER, len(whole)), whole]
    plain = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    head = plain.SerializeToString() + _prefix(RAW_DATA, array.nbytes)
    return [_prefix(INITIALIZER, len(head) + array.nbytes) + head, array]


def _size(part: Any) -> int:
    return part.nbytes if isinstance(part, np.ndarray) else len(part)


def _prefix(field: int, size: int) -> bytes:
    """What stands before a field of so many bytes."""
    return bytes(_varint(field << 3 | 2)) + bytes(_varint(size))


def _varint(number: int) -> Iterator[int]:
    """Seven bits a byte, the lowest first; all but the last have the eighth set."""
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number
