"""Other ways to run a node than by its rule: a bypass, a tap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxjax.graph import Node, Step, Values, plainly

Array = Any


def bypassing(names: frozenset[str], step: Step = plainly) -> Step:
    """Take the values `names` to equal the first input of their node."""

    def run(node: Node, values: Values) -> None:
        if names.intersection(node.outputs):
            values[node.outputs[0]] = values[node.inputs[0]]
        else:
            step(node, values)

    return run


def tapping(taps: Mapping[str, Array], step: Step = plainly) -> Step:
    """Add to a value before any other node sees it."""

    def run(node: Node, values: Values) -> None:
        step(node, values)
        for name in taps.keys() & set(node.outputs):
            values[name] = values[name] + taps[name]

    return run
