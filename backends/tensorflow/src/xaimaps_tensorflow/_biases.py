"""The bias of each layer: the constant term of its linear approximation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import tensorflow as tf

from xaimaps.graph import Operation as Described
from xaimaps.graph import degree, groups_of, is_affine, smooth_values
from xaimaps_tensorflow._graph import Operation, Tensor
from xaimaps_tensorflow._operations import CALLS, operation_of

Layer = tuple[Operation, ...]
"""Operations in the order of computation, the last of which makes the layer's value."""


class Biased(NamedTuple):
    """A layer with a bias.

    Attributes:
        layer: its operations.
        last: the description of the last operation.
        power: its degree of homogeneity, if it is one homogeneous operation.
        is_sum: whether it is one operation that is affine in the data.
        inputs: the data that it reads.
    """

    layer: Layer
    last: Described
    power: float | None
    is_sum: bool
    inputs: list[Tensor]


def with_bias(operations: set[Operation], images: Tensor) -> list[Biased]:
    """Return the layers with a bias, in the order of computation.

    Args:
        operations: the operations that the scores depend on.
        images: the images on which the model ran.
    """
    ordered = [one for one in images.graph.get_operations() if one in operations]
    sources = {operation_of(one): one for one in ordered}
    tensors = {x.name: x for one in ordered for x in (*one.inputs, *one.outputs)}
    tensors[images.name] = images

    def is_float(name: str) -> bool:
        return bool(tensors[name].dtype.is_floating)

    data = smooth_values(sources, images.name, is_float)
    found = []
    for group in groups_of(tuple(sources), data):
        layer = tuple(sources[one] for one in group)
        power = degree(group[-1], data, is_float) if len(group) == 1 else None
        is_sum = len(group) == 1 and is_affine(group[-1], data)
        if power != 1:
            inputs = _inputs(layer, data)
            found.append(Biased(layer, group[-1], power, is_sum, inputs))
    return found


def _inputs(layer: Layer, data: Collection[str]) -> list[Tensor]:
    """Return the data that a layer reads from outside, each tensor once."""
    read = {x.name: x for one in layer for x in one.inputs if x.op not in layer}
    return [x for name, x in read.items() if name in data]


def bias(biased: Biased) -> Tensor:
    """Return `h - J x` for a layer's value h at those inputs x that depend on images."""
    value = biased.layer[-1].outputs[0]
    if biased.power is not None:  # Euler: J x = k h, for h of degree k
        return (1 - biased.power) * value
    if biased.is_sum and biased.last.kind == "sum" and len(biased.inputs) == 1:
        return _added(biased.layer[-1], biased.inputs[0])
    return value - _linear(biased)


def _added(operation: Operation, data: Tensor) -> Tensor:
    """Return the constant of a sum exactly; as a difference it would have rounding errors."""
    other = next(x for x in operation.inputs if x is not data)
    is_taken_away = operation.type == "Sub" and operation.inputs[1] is other
    return tf.zeros_like(operation.outputs[0]) + (-other if is_taken_away else other)


def _linear(biased: Biased) -> Tensor:
    """Return J x, by two reverse-mode derivatives, because `tf.gradients` has no forward mode.

    The first gives u J for any u, and the second differentiates that by u, along x.
    """
    inputs, value = _again(biased.layer, biased.inputs)
    u = tf.ones_like(value)
    pulled = tf.gradients(value, inputs, u, stop_gradients=inputs)
    pairs = [(g, x) for g, x in zip(pulled, inputs, strict=True) if g is not None]
    found = tf.gradients([g for g, _ in pairs], u, [x for _, x in pairs])[0] if pairs else None
    return tf.zeros_like(value) if found is None else found


def _again(layer: Layer, read: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Return the inputs of a layer, and the value of a separate copy of the layer.

    TensorFlow's gradients search all operations after an input; after a copy there are few. The
    derivative of a call cannot be copied, because only that call has it.
    """
    if layer[-1].type in CALLS:
        return list(read), layer[-1].outputs[0]
    inputs = [tf.identity(x) for x in read]
    known = {x.ref(): own for x, own in zip(read, inputs, strict=True)}
    for operation in layer:
        again = _copy(operation, [known.get(x.ref(), x) for x in operation.inputs])
        pairs = zip(operation.outputs, again.outputs, strict=True)
        known.update((before.ref(), now) for before, now in pairs)
    return inputs, known[layer[-1].outputs[0].ref()]


def _copy(operation: Operation, inputs: Sequence[Tensor]) -> Operation:
    """Return the same operation on other inputs."""
    return operation.graph.create_op(
        operation.type,
        list(inputs),
        [output.dtype for output in operation.outputs],
        attrs=dict(operation.node_def.attr),
        op_def=operation.op_def,
    )
