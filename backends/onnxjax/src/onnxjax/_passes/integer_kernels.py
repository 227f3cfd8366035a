"""Operators between quantised tensors, computed on integers as in ONNX Runtime.

A file in QDQ form dequantises, computes on real values and quantises again. ONNX Runtime replaces
such a group by one integer operator, whose sums are exact. In a sum of real values, the last bit
would decide to which side a tie is rounded. Here the operator keeps its name and position in the
graph, and it still returns real values, but these are already rounded to those of integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from onnxjax._jax import jnp
from onnxjax._ops.quantization import carried, dequantize, nearest
from onnxjax._ops.rounding import exact_quotient
from onnxjax.graph import Graph, Node
from onnxjax.registry import Rule, RuleFunction, find_rule

Array = Any

_NEAR = 1e-3
"""A quotient this near to an integer is taken to have been an integer before it was scaled."""


def on_integers(graph: Graph) -> Graph:
    """Return a graph that computes operators between quantised tensors on their integers."""
    readers = Counter(name for node in graph.nodes for name in node.reads)
    readers.update(graph.outputs)
    rounded = {
        node.inputs[0]: node
        for node in graph.nodes
        if node.operator == "QuantizeLinear" and readers[node.inputs[0]] == 1
    }
    nodes = [
        _group(node, rounded[node.outputs[0]], graph) or node
        if node.rule.integer and node.outputs[0] in rounded
        else node
        for node in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def _group(node: Node, quantizer: Node, graph: Graph) -> Node | None:
    """Return the operator on integers, or None if ONNX Runtime would keep it real, too."""
    operands = [graph.producers.get(name) for name in node.inputs]
    result = quantizer.inputs[1:3]
    if (
        node.attributes.get("beta", 1) != 1
        or not all(operand and operand.operator == "DequantizeLinear" for operand in operands)
        or not all(_is_operand(operand, node, graph) for operand in operands[:2] if operand)
        or not _is_scalar(result, graph)
    ):
        return None
    return _on_integers(node, [o for o in operands if o is not None], result, graph)


def _is_operand(dequantizer: Node, reader: Node, graph: Graph) -> bool:
    """Return whether an operand has one scale, or is a weight with one scale per output."""
    return _is_scalar(dequantizer.inputs[1:], graph) or _is_weight(dequantizer, reader, graph)


def _is_weight(dequantizer: Node, reader: Node, graph: Graph) -> bool:
    values = [graph.constants[name] for name in dequantizer.inputs if name in graph.constants]
    if len(values) != 3:
        return False
    weight, scale, _ = values
    is_first = reader.rule.kind == "conv" or bool(reader.attributes.get("transB"))
    results = 0 if is_first else weight.ndim - 1
    axis = dequantizer.attributes.get("axis", 1) % weight.ndim
    return weight.dtype in (np.int8, np.uint8) and scale.ndim == 1 and axis == results


def _is_scalar(names: Sequence[str], graph: Graph) -> bool:
    """Return whether these are one scale and one zero point of 8 bits."""
    values = [graph.constants.get(name) for name in names]
    return len(values) == 2 and all(
        value is not None and value.size == 1 and value.dtype in kinds
        for value, kinds in zip(values, [(np.float32,), (np.uint8, np.int8)], strict=True)
    )


def _on_integers(node: Node, operands: Sequence[Node], result: Sequence[str], graph: Graph) -> Node:
    """Return the node with the integer operator's arguments after its own inputs."""
    assert node.rule.integer is not None, "on_integers asks first"
    integer = find_rule(*node.rule.integer, opset=np.iinfo(int).max)
    assert integer is not None, "a row names an operator that has one"
    names: list[str] = []
    real = []
    for position, operand in enumerate(operands[:2]):
        is_weight = operand.inputs[0] in graph.constants
        real += [] if is_weight else [len(names)]
        names += [operand.inputs[0] if is_weight else node.inputs[position], *operand.inputs[1:3]]
    bias = [operand.inputs[0] for operand in operands[2:]]
    if node.rule.kind == "dense":
        names += [*(bias or [""]), *result]
    else:
        names += [*result, *bias]
    inputs = (*node.inputs, *names, *result)
    run = _run(integer, len(node.inputs), real)
    rule = replace(node.rule, fn=run, static=frozenset(), elementwise=False)
    return replace(node, rule=rule, inputs=inputs)


def _run(integer: Rule, count: int, real: Sequence[int]) -> RuleFunction:
    """Return a rule on integers, which follow `count` inputs that it does not read."""

    def run(xp: Any, *inputs: Array, **attributes: Any) -> Array:
        arguments = list(inputs[count:-2])
        for first in real:
            arguments[first] = _integers(*arguments[first : first + 3])
        attributes.pop("beta", None)
        return dequantize(integer.fn(xp, *arguments, **attributes), *inputs[-2:])

    return run


def _integers(x: Array, scale: Array, zero: Array) -> Array:
    """Return the integers from which real values were dequantised.

    A value that was never an integer, as after a mask is applied to activations, is not rounded.
    """
    quotient = exact_quotient(x, jnp.asarray(scale))
    whole = nearest(quotient)
    return jnp.where(jnp.abs(quotient - whole) < _NEAR, whole, quotient) + carried(zero)
