"""The nodes of a graph in protobuf: what they read, their order, and those that values need."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto

from onnxjax.errors import ArrayInputError, ModelLoadError


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """Return the bodies of a control-flow operator."""
    return [a.g for a in node.attribute if a.type == AttributeProto.GRAPH]


def all_nodes(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes, and those of their bodies."""
    for node in nodes:
        yield node
        for body in subgraphs(node):
            yield from all_nodes(body.node)


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those that its bodies capture included."""
    yield from filter(None, node.input)
    for body in subgraphs(node):
        yield from _captured(body)


def _captured(graph: GraphProto) -> set[str]:
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own.update(name for node in graph.node for name in node.output)
    own.update(sparse.values.name for sparse in graph.sparse_initializer)
    found = {value.name for value in graph.output}
    return found.union(*map(reads, graph.node)) - own


def needed(
    nodes: Sequence[NodeProto], given: Collection[str], wanted: Collection[str]
) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes that values depend on, in order, and all names that these read.

    Args:
        nodes: nodes in the order of computation.
        given: values that are known.
        wanted: the values, which count as read.
    """
    kept, read = [], set(wanted)
    for node in reversed(nodes):
        if any(name in read and name not in given for name in node.output):
            kept.append(node)
            read.update(reads(node))
    return kept[::-1], read


def require_value(graph: GraphProto, name: str) -> None:
    """Refuse a name that is not a result of a node.

    Raises:
        ArrayInputError: it is none.
    """
    known = [output for node in graph.node for output in node.output]
    if name not in known:
        close = difflib.get_close_matches(str(name), known)
        hint = f"; nearest: {', '.join(map(repr, close))}" if close else ""
        raise ArrayInputError(
            f"`output` must be one of {', '.join(value.name for value in graph.output)}, or "
            f"another value of the graph, got {name!r}{hint}"
        )


def keep(messages: Any, is_kept: Callable[[Any], bool]) -> None:
    """Remove all other messages from a repeated field, in place and without a copy."""
    for i in reversed(range(len(messages))):
        if not is_kept(messages[i]):
            del messages[i]


def sort(nodes: Any) -> None:
    """Sort a protobuf's nodes in place, so that each follows those whose results it reads.

    ONNX requires this order, but ONNX Runtime does not, and its float16 converter does not keep
    it. Nodes that are in order stay as they are.

    Args:
        nodes: a repeated field.

    Raises:
        ModelLoadError: some nodes read each other's results.
    """
    for node in nodes:
        for body in subgraphs(node):
            sort(body.node)
    order = _order(nodes)
    if order != sorted(order):
        ordered = [nodes[i] for i in order]
        del nodes[:]
        nodes.extend(ordered)


def _order(nodes: Sequence[NodeProto]) -> list[int]:
    """Return the positions of nodes in the order of computation, the first in the file first."""
    makers = {name: i for i, node in reversed([*enumerate(nodes)]) for name in node.output}
    sorter = TopologicalSorter(
        {
            i: {makers[name] for name in reads(node) if name in makers}
            for i, node in enumerate(nodes)
        }
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise _cycle([nodes[i] for i in error.args[1]]) from None
    ready: list[int] = []
    order: list[int] = []
    while sorter.is_active():
        for i in sorter.get_ready():
            heapq.heappush(ready, i)
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
    return order


def _cycle(nodes: Sequence[onnx.NodeProto]) -> ModelLoadError:
    labels = dict.fromkeys(node.name or next(iter(node.output), node.op_type) for node in nodes)
    listed = ", ".join(map(repr, list(labels)[:3])) + (" and others" if len(labels) > 3 else "")
    return ModelLoadError(
        f"the model is not valid, because the nodes {listed} read each other's results in a "
        "cycle; export the model again"
    )
