"""Steps that run a node differently from its rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxjax._statistics import constant_statistics
from onnxjax.graph import Node, Step, Values, plainly

__all__ = ["bypassing", "constant_statistics", "tapping"]

Array = Any


def bypassing(names: frozenset[str], step: Step = plainly) -> Step:
    """Return a step that replaces each of the values `names` by the first input of its node."""

    def run(node: Node, values: Values) -> None:
        if names.intersection(node.outputs):
            values[node.outputs[0]] = values[node.inputs[0]]
        else:
            step(node, values)

    return run


def tapping(taps: Mapping[str, Array], step: Step = plainly) -> Step:
    """Return a step that adds to values before any other node reads them."""

    def run(node: Node, values: Values) -> None:
        step(node, values)
        for name in taps.keys() & set(node.outputs):
            values[name] = values[name] + taps[name]

    return run
