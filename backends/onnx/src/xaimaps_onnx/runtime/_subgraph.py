"""Parts of an ONNX graph: the nodes between given and wanted values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnxjax.read import needed

SHAPE = "<shape of>"
"""The prefix of the names of shapes that `with_shapes` adds."""


def infer_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove types, in place: ONNX Runtime infers them, and those in the file may be wrong."""
    del model.graph.value_info[:]
    return model


def bypass(model: onnx.ModelProto, replaced: Mapping[str, str]) -> None:
    """Replace some values by others, in place."""
    for node in model.graph.node:
        for name in replaced.keys() & set(node.output):
            node.CopyFrom(helper.make_node("Identity", [replaced[name]], [name], node.name))


def dequantize_floats(model: onnx.ModelProto, values: Collection[str]) -> None:
    """Compute the values of some DequantizeLinear from integers that are given as floats, in place.

    DequantizeLinear takes only integers. It is (x - zero_point) * scale.
    """
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        is_one = node.output[0] in values
        model.graph.node.extend(_dequantized(node) if is_one else [node])


def _dequantized(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    x, scale, *zero = filter(None, node.input)
    (made,) = node.output
    if zero:
        yield helper.make_node("Cast", zero, [f"{made}<zero>"], to=onnx.TensorProto.FLOAT)
        yield helper.make_node("Sub", [x, f"{made}<zero>"], [f"{made}<centred>"])
        x = f"{made}<centred>"
    yield helper.make_node("Mul", [x, scale], [made], node.name)


def inline_if(model: onnx.ModelProto, conditions: Mapping[str, bool]) -> None:
    """Replace each If with a known condition by the nodes of its branch, in place."""
    nodes = list(_inlined(model.graph.node, conditions, model.graph))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _inlined(
    nodes: Iterable[onnx.NodeProto], conditions: Mapping[str, bool], graph: onnx.GraphProto
) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        if node.op_type != "If" or node.input[0] not in conditions:
            yield node
            continue
        taken = "then_branch" if conditions[node.input[0]] else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == taken)
        graph.initializer.extend(branch.initializer)
        yield from _inlined(branch.node, conditions, graph)
        for inner, outer in zip(branch.output, node.output, strict=True):
            yield helper.make_node("Identity", [inner.name], [outer], node.name)


def with_shapes(
    model: onnx.ModelProto, shaped: Sequence[str], wanted: Sequence[str]
) -> onnx.ModelProto:
    """Make the shapes of some values, and some values, the outputs of a model, in place."""
    model.graph.node.extend(helper.make_node("Shape", [n], [shape_name(n)]) for n in shaped)
    del model.graph.output[:]
    names = [*map(shape_name, shaped), *wanted]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model


def shape_name(name: str) -> str:
    """Return the name of the shape of a value."""
    return SHAPE + name


def part_of(
    model: onnx.ModelProto, given: Mapping[str, np.ndarray[Any, Any]], wanted: Sequence[str]
) -> onnx.ModelProto:
    """Return the model of the nodes between the given values and the wanted ones.

    Args:
        model: the whole model.
        given: the values that become inputs.
        wanted: the names of the outputs.
    """
    graph = model.graph
    nodes, read = needed(graph.node, given, wanted)
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.graph.name = graph.name
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(t for t in graph.initializer if t.name in read)
    part.graph.sparse_initializer.extend(
        t for t in graph.sparse_initializer if t.values.name in read
    )
    part.graph.input.extend(_inputs(graph, given, read))
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return part


def _inputs(
    graph: onnx.GraphProto, given: Mapping[str, np.ndarray[Any, Any]], read: Collection[str]
) -> Iterator[onnx.ValueInfoProto]:
    """Yield the model's own inputs as it declares them, and the given inner values.

    An input of another type than the model declares is as it is given: integers as floats.
    """
    declared = {value.name: value for value in graph.input}
    weights = {tensor.name for tensor in graph.initializer}
    for name, array in given.items():
        own = declared.get(name)
        yield (
            own
            if own and own.type.tensor_type.elem_type == _kind(array)
            else _declared(name, array)
        )
    # Below IR version 4 every weight is an input too.
    yield from (declared[name] for name in declared if name in weights and name in read)


def _declared(name: str, array: np.ndarray[Any, Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _kind(array), [None] * array.ndim)


def _kind(array: np.ndarray[Any, Any]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
