"""Propagation rules in place of the derivatives of operations of a traced graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xaimaps.errors import UnsupportedModelError
from xaimaps.propagation import Change, Local, Rules
from xaimaps_tensorflow import _namespace as namespace
from xaimaps_tensorflow._graph import again, depending_on, described, needed_for

Tensor = Any
Operation = Any
Span = tuple[Tensor, Tensor]
"""Where a run starts, and its output."""

Derivative = Callable[[Operation, Tensor], Sequence[Tensor | None]]

_NAME = "XaimapsRule"


def obey(rules: Rules, start: Tensor, output: Tensor, reference: Span | None = None) -> None:
    """Replace the derivatives of the operations between two tensors.

    Args:
        rules: the rules.
        start: the images, or the value of a layer.
        output: the output to explain.
        reference: both for the images that these are compared with.
    """
    needed = needed_for([output])
    ordered = [one for one in output.graph.get_operations() if one in needed]
    before = {} if reference is None else _paired((start, output), reference)
    for change in rules.changes(described(ordered, start, output)):
        for operation, derivative in _derivatives(change, output.graph, before):
            _replace(operation, derivative)


def _between(start: Tensor, output: Tensor) -> list[Operation]:
    """Return the operations on the way from one tensor to another, in the order of computation."""
    wanted = needed_for([output]) & depending_on([start])
    return [one for one in output.graph.get_operations() if one in wanted]


def _paired(this: Span, other: Span) -> dict[str, Tensor]:
    """Return the tensors of another run of the same model, by the names of those of this run.

    Raises:
        UnsupportedModelError: the model does other operations in each run.
    """
    after, before = _between(*this), _between(*other)
    if [one.type for one in after] != [one.type for one in before]:
        raise UnsupportedModelError(
            "the model does other operations in each run, so that two runs cannot be compared; use "
            "integrated_gradients"
        )
    outputs = ((x for one in run for x in one.outputs) for run in (after, before))
    return {this[0].name: other[0], **{x.name: y for x, y in zip(*outputs, strict=True)}}


def _derivatives(
    change: Change, graph: tf.Graph, before: Mapping[str, Tensor]
) -> list[tuple[Operation, Derivative]]:
    """Return the operations from the result back to the data, each with its new derivative.

    All operations but the first pass c on as it is. The first one obeys the rule.
    """
    group = [graph.get_operation_by_name(one.name) for one in change.operations]
    by_output = {x.name: one for one in group for x in one.outputs}
    found, operation = list[tuple[Operation, Derivative]](), group[-1]
    while not any(x.name in change.data for x in operation.inputs):
        position = next(i for i, x in enumerate(operation.inputs) if x.name in by_output)
        found.append((operation, _passing(position)))
        operation = by_output[operation.inputs[position].name]
    return [*found, (operation, _ruled(change, group, before))]


def _passing(position: int) -> Derivative:
    def derivative(operation: Operation, c: Tensor) -> list[Tensor | None]:
        found: list[Tensor | None] = [None] * len(operation.inputs)
        found[position] = tf.reshape(c, operation.inputs[position].shape)
        return found

    return derivative


def _ruled(change: Change, group: Sequence[Operation], before: Mapping[str, Tensor]) -> Derivative:
    def derivative(operation: Operation, c: Tensor) -> list[Tensor | None]:
        graph = operation.graph
        local = Local(
            namespace, graph.get_tensor_by_name, _computing(group), before.__getitem__, _vjp
        )
        c = tf.reshape(c, graph.get_tensor_by_name(change.result).shape)
        pulled = dict(zip(change.data, change.rule.pull(change, local, c), strict=True))
        # a value that is read twice has all of its c at the first reading
        return [pulled.pop(x.name, None) for x in operation.inputs]

    return derivative


def _computing(group: Sequence[Operation]) -> Callable[[Mapping[str, Tensor], str], Tensor]:
    def compute(given: Mapping[str, Tensor], name: str) -> Tensor:
        known = dict(given)
        for one in group:
            if one.outputs[0].name not in given:
                known[one.outputs[0].name] = again(one, [known.get(x.name, x) for x in one.inputs])
        return known[name]

    return compute


def _vjp(fn: Callable[[Tensor], Tensor], x: Tensor, c: Tensor) -> Tensor:
    own = tf.identity(x)  # a new tensor, so that all other uses of it are constants
    (pulled,) = tf.gradients(fn(own), own, c)
    return pulled


def _replace(operation: Operation, derivative: Derivative) -> None:
    """Give an operation its own derivative, which lives as long as its graph."""
    graph = operation.graph
    found = graph._xaimaps_derivatives = getattr(graph, "_xaimaps_derivatives", {})
    found[operation.name] = derivative
    value = tf.compat.v1.AttrValue(s=_NAME.encode())
    operation._set_attr("_gradient_op_type", value)


def _derivative(operation: Operation, c: Tensor) -> Sequence[Tensor | None]:
    found: Derivative = operation.graph._xaimaps_derivatives[operation.name]
    return found(operation, c)


tf.RegisterGradient(_NAME)(_derivative)
