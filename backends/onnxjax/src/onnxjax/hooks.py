"""Steps that run a node differently from its rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onnxjax._arrays import is_static
from onnxjax._jax import jnp
from onnxjax._ops.memory import with_kept_gradient
from onnxjax._ops.platforms import lowering
from onnxjax._statistics import constant_statistics
from onnxjax.graph import Graph, Node, Step, Values, plainly

__all__ = ["bypassing", "constant_statistics", "keeping", "tapping"]

Array = Any


def bypassing(names: frozenset[str], step: Step = plainly) -> Step:
    """Return a step that replaces each of the values `names` by the first input of its node."""

    def run(node: Node, values: Values) -> None:
        if names.intersection(node.outputs):
            values[node.outputs[0]] = values[node.inputs[0]]
        else:
            step(node, values)

    return run


def keeping(graph: Graph, inputs: Iterable[str], step: Step = plainly) -> Step:
    """Return a step that computes the gradients of joins once, on platforms that need it.

    Args:
        graph: the nodes.
        inputs: the names of the data, without the parameters.
        step: runs a node.
    """
    joins = graph.joins(inputs) if lowering().kept else frozenset[str]()

    def run(node: Node, values: Values) -> None:
        step(node, values)
        for name in joins.intersection(node.outputs):
            if _has_gradient(values[name]):
                values[name] = with_kept_gradient(values[name])

    return run


def _has_gradient(value: Array) -> bool:
    """Return whether a value is of floats, and no shape, which stays in numpy."""
    return not is_static(value) and bool(jnp.issubdtype(value.dtype, jnp.floating))


def tapping(taps: Mapping[str, Array], step: Step = plainly) -> Step:
    """Return a step that adds to values before any other node reads them."""

    def run(node: Node, values: Values) -> None:
        step(node, values)
        for name in taps.keys() & set(node.outputs):
            values[name] = values[name] + taps[name]

    return run
