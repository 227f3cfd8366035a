"""Reading a traced graph: what depends on what, what a value is a view of, how it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

Tensor = Any
Operation = Any

SAME = frozenset({"Identity", "Cast", "PreventGradient", "CheckNumerics"})
"""Operations that hand their first input on."""

VIEWS = SAME | frozenset({"Reshape", "Squeeze", "ExpandDims"})
"""Operations that hand their first input on, in another shape at most."""

ENDS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
"""Activations that make probabilities of logits."""


class Ending(NamedTuple):
    """The activation that a model ends in.

    Attributes:
        operation: it.
        logits: what it makes probabilities of.
    """

    operation: Operation
    logits: Tensor


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


def ending(output: Tensor, stop: Tensor | None = None) -> Ending | None:
    """The softmax or sigmoid that makes an output, apart from views."""
    last = source(output, VIEWS, stop)
    if last is stop or last.op.type not in ENDS:
        return None
    return Ending(last.op, last.op.inputs[0])


def without_ending(output: Tensor, stop: Tensor | None = None) -> Tensor:
    """The logits of an output, in its shape."""
    found = ending(output, stop)
    return output if found is None else tf.reshape(found.logits, tf.shape(output))
