"""Which tokens of a transformer still count: a class token that is read alone cuts the others off.

A demand says what the rest of the graph reads of a value that has tokens on one or more axes:
everything, or only the tokens outside the grid on the axis that holds its n-th run of tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnxjax.graph import Node

from xaimaps_onnx._axes import Axes, grid_of, kind_of
from xaimaps_onnx._axis_rules import token_span

ALL = -1
"""The demand for every token."""

Demands = frozenset[int]
Statics = Mapping[str, np.ndarray[Any, Any]]

TOKENWISE = frozenset(
    (
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice", "Gather"),
        *("Identity", "Dropout", "Cast", "Where", "Expand", "Concat", "Softmax", "ReduceMean"),
        *("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"),
        *("SkipLayerNormalization", "Gelu", "QuickGelu", "BiasGelu", "FastGelu", "HardSwish"),
        *("Relu", "Erf", "Tanh", "Sigmoid", "Clip", "Exp", "Log", "Abs", "Sqrt", "Reciprocal"),
        *("Add", "Sub", "Mul", "Div", "Pow", "Neg", "Gemm", "MatMul", "Attention"),
        *("QuantizeLinear", "DequantizeLinear"),
    )
)
"""Operators whose result at a token depends, of their first input, on this token alone."""


def token_demands(
    nodes: Sequence[Node], output: str, axes: Mapping[str, Axes], statics: Statics
) -> dict[str, Demands]:
    """What is read of every value, from the output backwards.

    Args:
        nodes: in the order of computation.
        output: what counts.
        axes: the meaning of each value's axes.
        statics: values that are known while the graph is traced.
    """
    found: defaultdict[str, set[int]] = defaultdict(set, {output: {ALL}})
    for node in reversed(nodes):
        wanted = {demand for name in node.outputs for demand in found.get(name, ())}
        for position, name in enumerate(node.inputs):
            if name in axes and wanted:
                found[name] |= {_passed(node, position, axes, statics, d) for d in wanted}
    return {name: frozenset(demands) for name, demands in found.items()}


def _passed(
    node: Node, position: int, axes: Mapping[str, Axes], statics: Statics, demand: int
) -> int:
    """What a node reads of one input, when `demand` is read of its result."""
    read, result = axes[node.inputs[position]], axes.get(node.outputs[0], ())
    cut = _cut(node, position, read, statics)
    if cut is not None:
        return cut
    if demand == ALL or node.operator not in TOKENWISE or not _runs(read):
        return ALL
    return _mapped(node, position, read, result, demand)


def _cut(node: Node, position: int, read: Axes, statics: Statics) -> int | None:
    """The run of tokens of which a node takes only some that are outside the grid."""
    if position or node.operator not in ("Gather", "Slice"):
        return None
    for run, place in enumerate(_runs(read)):
        if kind_of(read[place]) != "T":
            continue
        gathers = int(node.attributes.get("axis", 0)) % len(read) == place
        if node.operator == "Slice" or gathers:
            span, grid = token_span(node, statics, place, read[place]), grid_of(read[place])
            if span is not None and (span[1] <= grid.start or span[0] >= grid.stop):
                return run
    return None


def _mapped(node: Node, position: int, read: Axes, result: Axes, demand: int) -> int:
    """The same demand in terms of an input's own axes."""
    if node.operator in ("MatMul", "Gemm", "Attention"):
        return (
            demand
            if position == 0 and demand < len(_rows(node, read))
            else _columns(node, position, read, result, demand)
        )
    if node.operator == "Transpose":
        order = node.attributes.get("perm") or range(len(read))[::-1]
        return _runs(read).index(order[_runs(result)[demand]])
    return demand if len(_runs(read)) == len(_runs(result)) else ALL


def _rows(node: Node, read: Axes) -> list[int]:
    """The runs of a first factor that are not summed over."""
    return [place for place in _runs(read) if place != len(read) - 1]


def _columns(node: Node, position: int, read: Axes, result: Axes, demand: int) -> int:
    """A demand for the last axis of a product is one for that of its second factor."""
    is_last = bool(_runs(result)) and _runs(result)[demand] == len(result) - 1
    ends = bool(_runs(read)) and _runs(read)[-1] == len(read) - 1
    if node.operator == "MatMul" and position == 1 and is_last and ends:
        return len(_runs(read)) - 1
    return ALL


def _runs(axes: Axes) -> list[int]:
    """For each run of tokens among others, the axis that holds it."""
    return [
        place
        for place, axis in enumerate(axes)
        for part in axis
        if part.kind == "T" and part.size == part.total
    ]
