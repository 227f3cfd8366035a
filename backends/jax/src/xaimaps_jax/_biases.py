"""The bias of each layer: the constant term of its linear approximation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Step, Values

from xaimaps.graph import Operation, degree, groups_of, is_affine, smooth_values

Array = Any
Layer = Sequence[tuple[Operation, Any]]
"""Operations, and the nodes that run them."""


def biases(
    nodes: Sequence[Any],
    operation_of: Callable[[Any], Operation],
    values: Values,
    images: str,
    step: Step,
) -> dict[str, Array]:
    """Return the bias `h - J x` of each layer, by the name of its value h; zero biases are omitted.

    Args:
        nodes: the nodes that the scores depend on, in order.
        operation_of: returns the operation of a node.
        values: all values by name.
        images: the name of the images.
        step: runs a node.
    """
    operations = {operation_of(node): node for node in nodes}
    data = smooth_values(operations, images, lambda value: _is_float(values.get(str(value))))
    found = {}
    for group in groups_of(tuple(operations), data):
        layer = [(operation, operations[operation]) for operation in group]
        bias = _bias(layer, values, data, step)
        if bias is not None:
            found[str(group[-1].makes[0])] = bias
    return found


def _bias(layer: Layer, values: Values, data: frozenset[Any], step: Step) -> Array | None:
    """Return `h - J x` for a layer's value h at its inputs x, or None if it is zero."""
    names = _inputs(layer, data)

    def value(*inputs: Array) -> Array:
        local = {**values, **dict(zip(names, inputs, strict=True))}
        for _, node in layer:
            step(node, local)
        return local[layer[-1][0].makes[0]]

    inputs = [values[name] for name in names]
    powers = [degree(one, data, lambda name: _is_float(values[name])) for one, _ in layer]
    if set(powers) == {1}:
        return None
    if len(layer) == 1:
        operation = layer[0][0]
        if (power := powers[0]) is not None:  # Euler: J x = k h
            return (1 - power) * values[operation.makes[0]]
        if operation.kind == "conv" and operation.is_linear and names == [operation.reads[0]]:
            return _added(operation, values)
        if is_affine(operation, data):
            return value(*map(jnp.zeros_like, inputs))
    # no shortcut applies: J x is the derivative in the direction of the inputs themselves
    result, linear = jax.jvp(value, tuple(inputs), tuple(inputs))
    return result - linear


def _inputs(layer: Layer, data: frozenset[Any]) -> list[Any]:
    """Return the data that a layer reads from outside."""
    made = {name for operation, _ in layer for name in operation.makes}
    read = dict.fromkeys(name for operation, _ in layer for name in operation.needs)
    return [name for name in read if name in data and name not in made]


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _added(operation: Operation, values: Values) -> Array:
    """Return a convolution's bias; evaluating it at zero would compile every convolution twice."""
    bias, result = values[operation.reads[2]], values[operation.makes[0]]
    return jnp.broadcast_to(bias.reshape(-1, *(1,) * (result.ndim - 2)), result.shape)
