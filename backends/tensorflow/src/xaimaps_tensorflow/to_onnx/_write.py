"""The writing of a model without a copy of its weights, which are still in the framework's memory.

protobuf would make three copies: in the message, in its encoding, and in Python's bytes.
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
    """Write a graph as one message, with the data of its initialisers that have none.

    Args:
        file: the file to write to.
        proto: the graph.
        weights: the data by name, each contiguous.

    Returns:
        The number of written bytes.
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
    """Return an initialiser as an encoded field of its graph."""
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
    """Return the encoded number and length that precede a field with so many bytes."""
    return bytes(_varint(field << 3 | 2)) + bytes(_varint(size))


def _varint(number: int) -> Iterator[int]:
    """Yield seven bits in each byte, the lowest first; the eighth is set in all but the last."""
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number
