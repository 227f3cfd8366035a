"""Reading a traced graph: what depends on what, what a value is a view of, how it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xaimaps import graph as description
from xaimaps.graph import Operation as Described
from xaimaps.graph import axis_of, find_ending
from xaimaps_tensorflow._operations import operation_of, shape_of

Tensor = Any
Operation = Any

SAME = frozenset({"Identity", "Cast", "PreventGradient", "CheckNumerics"})
"""Operations that hand their first input on."""

VIEWS = SAME | frozenset({"Reshape", "Squeeze", "ExpandDims"})
"""Operations that hand their first input on, in another shape at most."""


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of a layer's value, which may be a list, a dictionary or None."""
    return [one for one in tf.nest.flatten(value) if tf.is_tensor(one)]


def depending_on(tensors: Iterable[Tensor]) -> set[Operation]:
    """The operations that use any of these tensors, or what was made of them."""
    found: set[Operation] = set()
    left = [operation for tensor in tensors for operation in tensor.consumers()]
    while left:
        operation = left.pop()
        if operation not in found:
            found.add(operation)
            left += [user for output in operation.outputs for user in output.consumers()]
    return found


def needed_for(tensors: Iterable[Tensor], known: Iterable[Tensor] = ()) -> set[Operation]:
    """The operations that these tensors are made by, up to those that make what is known."""
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
    """What a tensor is a view of, back to `stop` at most."""
    while tensor.op.type in views and tensor.op.inputs and tensor is not stop:
        tensor = tensor.op.inputs[0]
    return tensor


class Producers(Mapping[str, Described]):
    """The operation behind each tensor of a graph by name, back to a tensor to stop at."""

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
    """The logits of an output, in its shape."""
    found = find_ending(Producers(output, stop), output.name)
    if found is None:
        return output
    logits = output.graph.get_tensor_by_name(found.logits)
    return tf.reshape(logits, tf.shape(output))


def described(operations: Iterable[Operation], images: Tensor, output: Tensor) -> description.Graph:
    """The core's graph of a traced model.

    Args:
        operations: those that the output is made by, in the order of computation.
        images: what the model was run on, of a known shape.
        output: what is explained.
    """
    sources = list(operations)
    shapes = ((x.name, shape_of(x)) for one in sources for x in one.outputs)
    constants = (one.outputs[0] for one in sources if one.type == "Const")
    statics = ((x.name, tf.get_static_value(x)) for x in constants)
    sizes = zip("NHWC", images.shape, strict=True)
    return description.Graph(
        operations=tuple(map(operation_of, sources)),
        images=images.name,
        image_axes=tuple(axis_of(kind, size) for kind, size in sizes),
        output=output.name,
        shapes={name: shape for name, shape in shapes if shape is not None},
        statics={name: np.asarray(value) for name, value in statics if value is not None},
    )
