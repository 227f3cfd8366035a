"""Analyses of a traced graph: dependencies, views, and the ending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xaimaps import graph as description
from xaimaps.graph import ASSEMBLING, SIDES, axis_of, find_ending
from xaimaps.graph import Operation as Described
from xaimaps_tensorflow._operations import operation_of, shape_of

Tensor = Any
Operation = Any

SAME = frozenset({"Identity", "Cast", "PreventGradient", "CheckNumerics"})
"""Operations that return their first input."""

VIEWS = SAME | frozenset({"Reshape", "Squeeze", "ExpandDims"})
"""Operations that return their first input, in another shape at most."""


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of a layer's value, which may be a list, a dictionary or None."""
    return [one for one in tf.nest.flatten(value) if tf.is_tensor(one)]


def depending_on(tensors: Iterable[Tensor]) -> set[Operation]:
    """Return the operations that use any of these tensors, directly or indirectly."""
    found: set[Operation] = set()
    left = [operation for tensor in tensors for operation in tensor.consumers()]
    while left:
        operation = left.pop()
        if operation not in found:
            found.add(operation)
            left += [user for output in operation.outputs for user in output.consumers()]
    return found


def needed_for(tensors: Iterable[Tensor], known: Iterable[Tensor] = ()) -> set[Operation]:
    """Return the operations that make these tensors, except those that make known tensors."""
    found = {tensor.op for tensor in known}
    ends = set(found)
    left = [tensor.op for tensor in tensors]
    while left:
        operation = left.pop()
        if operation not in found:
            found.add(operation)
            left += [tensor.op for tensor in operation.inputs]
    return found - ends


def source(tensor: Tensor, views: frozenset[str] = SAME, stop: Tensor | None = None) -> Tensor:
    """Return the tensor of which a tensor is a view, but do not search beyond `stop`."""
    while tensor.op.type in views and tensor.op.inputs and tensor is not stop:
        tensor = tensor.op.inputs[0]
    return tensor


class Producers(Mapping[str, Described]):
    """The operation that makes each tensor of a graph, by name; `stop` counts as an input."""

    def __init__(self, output: Tensor, stop: Tensor | None = None) -> None:
        self._graph = output.graph
        self._stop = None if stop is None else stop.name

    def __getitem__(self, name: str) -> Described:
        if name == self._stop:
            raise KeyError(name)
        return operation_of(self._graph.get_tensor_by_name(name).op)

    def __iter__(self) -> Iterator[str]:
        return (x.name for one in self._graph.get_operations() for x in one.outputs)

    def __len__(self) -> int:
        return sum(len(one.outputs) for one in self._graph.get_operations())


def without_ending(output: Tensor, stop: Tensor | None = None) -> Tensor:
    """Return an output with the logits in the place of its probabilities."""
    found = find_ending(Producers(output, stop), output.name)
    if found is None:
        return output
    return _with(output, found.replaced)


def _with(tensor: Tensor, replaced: Mapping[str, str]) -> Tensor:
    """Return a value with others in the place of some that it is assembled from."""
    if tensor.name in replaced:
        return _with(tensor.graph.get_tensor_by_name(replaced[tensor.name]), replaced)
    operation = tensor.op
    if operation_of(operation).kind not in ASSEMBLING:
        return tensor
    inputs = [_with(one, replaced) for one in operation.inputs]
    if all(new is old for new, old in zip(inputs, operation.inputs, strict=True)):
        return tensor
    results = again(operation, inputs)
    return results[tensor.value_index] if len(operation.outputs) > 1 else results


def again(operation: tf.Operation, inputs: Sequence[Tensor]) -> Any:
    """Return the results of an operation for other inputs."""
    attributes = {k: v for k, v in operation.node_def.attr.items() if not k.startswith("_")}
    dtypes = [x.dtype for x in operation.outputs]
    graph = tf.compat.v1.get_default_graph()
    outputs = graph.create_op(operation.type, list(inputs), dtypes, attrs=attributes).outputs
    return outputs if len(outputs) > 1 else outputs[0]


def described(operations: Iterable[Operation], images: Tensor, output: Tensor) -> description.Graph:
    """Return the graph of `xaimaps.graph` for a traced model.

    Args:
        operations: the operations that make the output, in the order of computation.
        images: the images on which the model ran, of a known shape; or the value of a layer that
            takes their place, whose axes may be unknown.
        output: the output to explain.
    """
    sources = list(operations)
    shapes = ((x.name, shape_of(x)) for one in sources for x in one.outputs)
    constants = (one.outputs[0] for one in sources if one.type == "Const")
    statics = ((x.name, tf.get_static_value(x)) for x in constants)
    sides = SIDES.get(images.shape.rank - 2)
    return description.Graph(
        operations=tuple(map(operation_of, sources)),
        images=images.name,
        image_axes=tuple(map(axis_of, f"N{sides}C", images.shape)) if sides else (),
        output=output.name,
        shapes={name: shape for name, shape in shapes if shape is not None},
        statics={name: np.asarray(value) for name, value in statics if value is not None},
    )
