"""Elementwise operators between convolutions, computed in the order of axes that is fast.

Convolutions and poolings use that order without a pass (`_ops/channels.py`). The operators between
them must use it too, or XLA would transpose every feature map twice. But only the graph shows
whether the second axis of an elementwise operator holds channels.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from onnxjax._ops.channels import (
    axis_of,
    elementwise,
    first,
    is_channels_last,
    is_moved,
    last,
)
from onnxjax._ops.common import to_ints
from onnxjax._ops.convolution import Kernel, conv
from onnxjax._ops.shape import concat
from onnxjax._ops.slicing import pad_11
from onnxjax.graph import Graph
from onnxjax.registry import Rule, RuleFunction

Array = Any
Params = dict[str, Array]


def channels_last(graph: Graph) -> Graph:
    """Return a graph that computes elementwise operators on feature maps in the fast order."""
    planar = [node for node in graph.nodes if node.is_planar]
    maps = {name for node in planar for name in (*node.inputs[:1], *node.outputs[:1]) if name}
    nodes = []
    for node in graph.nodes:
        if maps.intersection((*node.inputs, *node.outputs)) and (fn := _reordered(node.rule)):
            maps.update(node.outputs)
            node = replace(node, rule=replace(node.rule, fn=fn))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def kernels_by_place(graph: Graph, params: Params) -> Params:
    """Return the parameters, with the weights of convolutions in the order that these read.

    A weight that another node reads too is not changed.
    """
    if not is_channels_last():
        return params
    read = Counter(name for node in graph.nodes for name in node.reads)
    read.update(graph.outputs)
    weights = {node.inputs[1] for node in graph.nodes if node.rule.fn is conv}
    own = {n for n in weights & params.keys() if read[n] == 1 and params[n].ndim > 2}
    return {name: Kernel.of(array) if name in own else array for name, array in params.items()}


def _reordered(rule: Rule) -> RuleFunction | None:
    """Return the rule's function in the fast order of axes, or None if it has none."""
    if rule.elementwise:
        return _elementwise(rule.fn)
    return ALONG_AXES.get(rule.fn)


def _elementwise(fn: RuleFunction) -> RuleFunction:
    def run(xp: Any, *inputs: Array | None, **attributes: Any) -> Array:
        return elementwise(functools.partial(fn, xp, **attributes))(*inputs)

    return run


def _concat(xp: Any, *parts: Array, axis: int = 1) -> Array:
    if not is_moved(*parts):
        return concat(xp, *parts, axis=axis)
    return first(concat(xp, *map(last, parts), axis=axis_of(axis, parts[0].ndim)))


def _pad(
    xp: Any,
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    if not is_moved(x):
        return pad_11(xp, x, pads, value, axes, mode=mode)
    named = range(x.ndim) if axes is None else to_ints(axes)
    moved = [axis_of(axis, x.ndim) for axis in named]
    return first(pad_11(xp, last(x), pads, value, moved, mode=mode))


ALONG_AXES: Mapping[RuleFunction, RuleFunction] = {concat: _concat, pad_11: _pad}
"""Rules with axis numbers, and their versions for the fast order. Any other rule with axis numbers
costs two transpositions."""
