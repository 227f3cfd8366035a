"""Shapes and static values of a graph, from one run in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnxjax import OnnxModel
from onnxjax.graph import Graph, Node

from xaimaps.graph import Shape
from xaimaps_onnx.runtime._sessions import Sessions

LARGEST = 1024
"""The most elements of a static value that is kept: shapes, axes and indices, not weights."""

UNSHAPED = ("Sequence", "Optional")
"""Parts of the names of operators whose results are not tensors."""


def run_once(
    sessions: Sessions, model: OnnxModel, graph: Graph, output: str, shape: Shape
) -> tuple[dict[str, Shape], dict[str, np.ndarray[Any, Any]]]:
    """Return the shapes of all values for images of a shape, and the values that are static.

    The graph runs on images of zeros. ONNX Runtime returns only the shapes of values that depend
    on the images, so that it can free each value after its last reader.
    """
    (images,) = model.inputs
    nodes = graph.needed_for([output])
    made = [name for node in nodes if _has_shapes(node) for name in node.outputs if name]
    static = _static(nodes, images.name)
    given = {images.name: np.zeros(shape, images.dtype)}
    wanted = [name for name in made if name in static]
    shapes, values = sessions.probe(given, made, wanted, _branches(model.graph, graph))
    small = {name: value for name, value in values.items() if value.size <= LARGEST}
    weights = {name: tuple(array.shape) for name, array in model.params.items()}
    return {**weights, images.name: shape, **shapes}, {**graph.constants, **small}


def _branches(whole: Graph, inlined: Graph) -> dict[str, bool]:
    """Return whether each inlined If took its then-branch, by the name of its condition."""
    left = {node.outputs for node in inlined.nodes if node.operator == "If"}
    gone = (node for node in whole.nodes if node.operator == "If" and node.outputs not in left)
    return {
        node.inputs[0]: not node.subgraphs["then_branch"]
        .producers.keys()
        .isdisjoint(inlined.producers)
        for node in gone
    }


def _has_shapes(node: Node) -> bool:
    return not any(word in node.operator for word in UNSHAPED)


def _static(nodes: Iterable[Node], images: str) -> frozenset[str]:
    """Return the values that depend on no image, or only on its size."""
    found, data = set[str](), {images}
    for node in nodes:
        depends = data.intersection(node.reads) and node.rule.kind != "size"
        (data if depends else found).update(node.outputs)
    return frozenset(found)
