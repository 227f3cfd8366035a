"""Shapes and static values of a graph, found by running it in ONNX Runtime once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnxjax import OnnxModel
from onnxjax.graph import Graph, Node

from xaimaps.graph import Shape
from xaimaps_onnx.runtime._sessions import Sessions

LARGEST = 1024
"""Elements up to which a static value is kept: shapes, axes and indices, not weights."""

UNSHAPED = ("Sequence", "Optional")
"""What the names of operators hold whose results are no tensors."""


def run_once(
    sessions: Sessions, model: OnnxModel, graph: Graph, output: str, shape: Shape
) -> tuple[dict[str, Shape], dict[str, np.ndarray[Any, Any]]]:
    """The shapes of all values for images of a shape, and the values that are static.

    The graph runs on black images. Of what depends on them ONNX Runtime returns the shapes only,
    so that no value outlives its last reader.
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
    """Which branch of each If is inlined, by the name of its condition."""
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
    """The values that depend on no image, or on its size alone."""
    found, data = set[str](), {images}
    for node in nodes:
        depends = data.intersection(node.reads) and node.rule.kind != "size"
        (data if depends else found).update(node.outputs)
    return frozenset(found)
