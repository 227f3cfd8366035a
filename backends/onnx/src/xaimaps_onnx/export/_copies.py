"""The nodes of a file written again, for other values at some place of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnxjax.read import needed
from onnxjax.read._nodes import reads, subgraphs

from xaimaps_onnx.export._traced import Traced

Lookup = Callable[[str], Traced]


def copied(
    nodes: Sequence[onnx.NodeProto],
    given: Mapping[str, Traced],
    before: Mapping[str, Traced],
    wanted: str,
    plain: Lookup,
) -> dict[str, Traced]:
    """Write the nodes again that lie between other values and a wanted one.

    Weights, and values that do not depend on the others, are those of the file.

    Args:
        nodes: the nodes of the file.
        given: the other values, by the names of those that they replace.
        before: other values that these nodes read besides, by name.
        wanted: the name of the value to compute.
        plain: returns a value of the file by name.

    Returns:
        All values that differ from those of the file, by their names in it.
    """
    found = dict(given)
    at = max((one.recorder for one in (*given.values(), *before.values())), key=lambda r: r.depth)
    for node in needed(nodes, given, [wanted])[0]:
        if found.keys().isdisjoint(reads(node)):
            continue
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for i, name in enumerate(node.output):
            if name:
                like = plain(name)
                found[name] = Traced(at, at.name(), like.shape, like.dtype)
                copy.output[i] = found[name].name
        _rename(copy, {name: one.name for name, one in {**before, **found}.items()})
        copy.name = f"{copy.output[0]}/{node.name}"
        at.nodes.append(copy)
    return {**before, **found}


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and the bodies in it, read other values."""
    for i, name in enumerate(node.input):
        node.input[i] = names.get(name, name)
    for body in subgraphs(node):
        for inner in body.node:
            _rename(inner, names)
        for output in body.output:
            output.name = names.get(output.name, output.name)
