"""Inlining of the branches of If into the surrounding graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from onnxjax.graph import Graph, Node
from onnxjax.registry import find_rule

Statics = Mapping[str, Any]
Taken = Callable[[Node, Statics], str | None]


def decided(node: Node, statics: Statics) -> str | None:
    """Return the branch that a known condition selects, or None."""
    condition = statics.get(node.inputs[0])
    if condition is None or np.size(condition) != 1:
        return None
    return "then_branch" if np.all(condition) else "else_branch"


def likely(node: Node, statics: Statics) -> str:
    """Return the branch of a known condition, else either one: both must give the same shapes."""
    return decided(node, statics) or "then_branch"


def written_out(graph: Graph, taken: Taken, statics: Statics) -> Graph:
    """Return a graph in which each If is replaced by the nodes of one of its branches.

    An If is kept if a name in its branch is also the name of another value, because two branches
    of one file may use the same names.

    Args:
        graph: the graph.
        taken: returns the branch to inline, or None to keep an If.
        statics: values that are known in addition to the graph's constants.
    """
    nodes: list[Node] = []
    constants = dict(graph.constants)
    names = {*statics, *constants, *graph.inputs, *graph.producers}
    for node in graph.nodes:
        body = _body(node, taken, {**statics, **constants})
        own = {*body.constants, *body.producers} if body else names
        if body is None or not names.isdisjoint(own):
            nodes.append(node)
            continue
        names |= own
        constants.update(body.constants)
        nodes += [*body.nodes, *_handed_on(node, body.outputs)]
    return Graph(tuple(nodes), constants, graph.inputs, graph.outputs)


def _body(node: Node, taken: Taken, statics: Statics) -> Graph | None:
    branch = taken(node, statics) if node.operator == "If" else None
    return written_out(node.subgraphs[branch], taken, statics) if branch else None


def _handed_on(node: Node, results: tuple[str, ...]) -> Iterator[Node]:
    """Yield nodes that copy the results of a branch to the outputs of the If."""
    rule = find_rule("", "Identity", 1)
    assert rule is not None, "registered with the elementwise operators"
    for inner, outer in zip(results, node.outputs, strict=False):
        if outer:
            yield Node(node.name, "Identity", rule, (inner,), (outer,), {})
