"""The branches of If, inlined into the graph around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from onnxjax.graph import Graph, Node
from onnxjax.registry import find_rule

Statics = Mapping[str, Any]
Taken = Callable[[Node, Statics], str | None]


def decided(node: Node, statics: Statics) -> str | None:
    """The branch that a known condition takes."""
    condition = statics.get(node.inputs[0])
    if condition is None or np.size(condition) != 1:
        return None
    return "then_branch" if np.all(condition) else "else_branch"


def likely(node: Node, statics: Statics) -> str:
    """Any branch, where both have to give the same shapes."""
    return decided(node, statics) or "then_branch"


def written_out(graph: Graph, taken: Taken, statics: Statics) -> Graph:
    """A graph with the nodes of a branch instead of each If.

    An If stays where the names in its branch are also names of other values: two branches of one
    file may share them.

    Args:
        graph: the graph.
        taken: the branch to write out, None to leave an If as it is.
        statics: values that are known in addition to its constants.
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
    """The results of a branch under the names that the rest of the graph knows."""
    rule = find_rule("", "Identity", 1)
    assert rule is not None, "registered with the elementwise operators"
    for inner, outer in zip(results, node.outputs, strict=False):
        if outer:
            yield Node(node.name, "Identity", rule, (inner,), (outer,), {})
