"""The inputs of a file: one is explained, and the values of the others become constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxjax.read import Source

from xaimaps._inputs import as_row, require_known, require_single

Array = np.ndarray[Any, Any]

COLUMN = "/column"
"""The end of the name of a vector that is taken as a signal of one channel."""


def with_inputs(source: Source, given: Mapping[str, Any] | None) -> Source:
    """Give values to some inputs of a model, in place; the others remain.

    Args:
        source: the model.
        given: the values for one image by the names of the inputs; all images get the same.

    Raises:
        ArrayInputError: there is no such input, or a value does not fit it.
        UnsupportedModelError: no input is left.
    """
    graph, given = source.proto.graph, given or {}
    declared = own_inputs(graph)
    require_known(given, declared)
    left = [value for name, value in declared.items() if name not in given]
    if not left:
        require_single(())
    for name, value in given.items():
        graph.input.remove(declared[name])
        sizes, dtype = sizes_of(declared[name]), _dtype(declared[name])
        if _has_batch(declared[name], left[0]):
            _repeat(graph, name, as_row(name, value, sizes[1:], dtype), left[0])
        else:
            _add(graph, name, as_row(name, value, sizes, dtype))
    return source


def with_vector(source: Source, layout: str | None) -> tuple[Source, str | None]:
    """Take an explained vector `(N, F)` as a signal `(N, F, 1)`, in place.

    Returns:
        The model, and the layout of such a signal if there is one, otherwise `layout`.
    """
    graph = source.proto.graph
    (images,) = own_inputs(graph).values()
    sizes, dtype = sizes_of(images), _dtype(images)
    if len(sizes) != 2 or sizes[1] is None or dtype.kind != "f":
        return source, layout
    column, shape = f"{images.name}{COLUMN}", f"{images.name}/sizes"
    kind, batch = images.type.tensor_type.elem_type, sizes[0] or "N"
    graph.input.remove(images)
    graph.input.insert(0, helper.make_tensor_value_info(column, kind, [batch, sizes[1], 1]))
    _add(graph, shape, np.array([0, -1]))
    graph.node.insert(0, helper.make_node("Reshape", [column, shape], [images.name]))
    return source, "NLC"


def own_inputs(graph: onnx.GraphProto) -> dict[str, onnx.ValueInfoProto]:
    """Return the inputs by name; below version 4 of the format, weights are declared as inputs."""
    weights = {tensor.name for tensor in graph.initializer}
    return {value.name: value for value in graph.input if value.name not in weights}


def _has_batch(value: onnx.ValueInfoProto, images: onnx.ValueInfoProto) -> bool:
    """Return whether the first axis of an input is that of the images."""
    size, batch = sizes_of(value)[:1], sizes_of(images)[:1]
    return size == (None,) or size == batch != ()


def _repeat(graph: onnx.GraphProto, name: str, row: Array, images: onnx.ValueInfoProto) -> None:
    """Add nodes that repeat a row once for each image, as the value of an input."""
    one, first, counts = (f"{name}/{part}" for part in ("row", "first", "counts"))
    _add(graph, one, row[None])
    _add(graph, first, np.array([0]))
    _add(graph, f"{name}/ones", np.ones(row.ndim, np.int64))
    nodes = [
        helper.make_node("Shape", [images.name], [f"{name}/shape"]),
        helper.make_node("Gather", [f"{name}/shape", first], [f"{name}/count"], axis=0),
        helper.make_node("Concat", [f"{name}/count", f"{name}/ones"], [counts], axis=0),
        helper.make_node("Tile", [one, counts], [name]),
    ]
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _add(graph: onnx.GraphProto, name: str, array: Array) -> None:
    graph.initializer.append(numpy_helper.from_array(array, name))


def sizes_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the declared sizes of a value; None is one that varies."""
    dims = value.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in dims)


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    return helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
