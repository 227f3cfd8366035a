"""Propagation rules in place of the derivatives of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from onnxjax.graph import Graph, Step, Values
from onnxjax.hooks import constant_statistics

from xaimaps.propagation import Change, Local

Array = Any
Read = Callable[[Any], Array]
"""Returns a weight, which the engine may hold in another order, as an array."""


def changing(
    changes: Sequence[Change], graph: Graph, read: Read, step: Step, reference: Values
) -> Step:
    """Return a step that replaces the derivatives of operations.

    Args:
        changes: the operations and their rules.
        graph: the nodes.
        read: returns a weight as an array.
        step: runs a node.
        reference: the values for the images that these are compared with, if they are.
    """
    by_result = {change.result: change for change in changes}

    def run(node: Any, values: Values) -> None:
        step(node, values)
        change = by_result.get(node.outputs[0])
        if change is not None:
            nodes = [graph.producers[one.makes[0]] for one in change.operations]
            compared = [name for name in (*change.data, change.result) if name in reference]
            changed = _changed(change, nodes, dict(values), read, step, compared)
            arguments = [values[name] for name in change.data]
            arguments += [reference[name] for name in compared]
            values[change.result] = changed(*arguments)

    return run


def _changed(
    change: Change,
    nodes: Sequence[Any],
    values: Values,
    read: Read,
    step: Step,
    compared: Sequence[str],
) -> Callable[..., Array]:
    """Return the operations as a function of their data, with the rule as its derivative.

    Behind the data, it takes the references of the values `compared`.
    """
    count = len(change.data)

    def compute(data: Values, given: Mapping[str, Array], name: str) -> Array:
        known = {**values, **data, **given}
        for node in nodes:
            if node.outputs[0] not in given:
                with constant_statistics():
                    step(node, known)
            if name in node.outputs:
                break
        return known[name]

    @jax.custom_vjp
    def run(*arrays: Array) -> Array:
        return compute(dict(zip(change.data, arrays[:count], strict=True)), {}, change.result)

    def forward(*arrays: Array) -> tuple[Array, tuple[Array, ...]]:
        return run(*arrays), arrays

    def backward(arrays: tuple[Array, ...], c: Array) -> tuple[Array, ...]:
        known = dict(zip(change.data, arrays[:count], strict=True))
        reference = dict(zip(compared, arrays[count:], strict=True))

        def value(name: str) -> Array:
            if name in known:
                return known[name]
            made = any(name in node.outputs for node in nodes)
            return compute(known, {}, name) if made else read(values[name])

        def again(given: Mapping[str, Array], name: str) -> Array:
            return compute(known, given, name)

        local = Local(jnp, value, again, reference.__getitem__, _vjp)
        found = change.rule.pull(change, local, c)
        pairs = zip((*found, *(None for _ in compared)), arrays, strict=True)
        return tuple(jnp.zeros_like(x) if one is None else one.astype(x.dtype) for one, x in pairs)

    run.defvjp(forward, backward)
    return run


def _vjp(fn: Callable[[Array], Array], x: Array, c: Array) -> Array:
    result, pull = jax.vjp(fn, x)
    (pulled,) = pull(c.astype(result.dtype))
    return pulled
