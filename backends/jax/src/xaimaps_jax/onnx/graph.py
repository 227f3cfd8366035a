"""An ONNX graph as a pure JAX function of its parameters and inputs, with named values.

Weights are parameters (arguments of a compiled program, free to be trained); every other
constant stays in numpy, where shape arithmetic folds itself in int64 while JAX traces, so
that one graph serves every batch size and image size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from xaimaps.errors import UnsupportedModelError
from xaimaps_jax.onnx.registry import Rule

Array = Any
Values = dict[str, Array]

STATIC_SIZE = 32
"""Floats of up to this many elements stay in numpy: scales, bounds and sizes, not weights."""


@dataclass(frozen=True)
class Node:
    """One operator, resolved to its rule.

    Attributes:
        name: the node's name in the file, or that of its first output.
        operator: the ONNX operator.
        rule: what computes it.
        inputs: value names, "" for an optional one that is missing.
        outputs: value names, "" for one that nobody wants.
        attributes: by schema name, in Python's own types.
        subgraphs: the bodies of If, Loop and Scan.
        metadata: what the exporter noted of the node's origin.
    """

    name: str
    operator: str
    rule: Rule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it needs, those of its subgraphs too."""
        captured = (name for graph in self.subgraphs.values() for name in graph.captured)
        return (*(name for name in self.inputs if name), *captured)

    def __call__(self, values: Values) -> None:
        """Compute the outputs into `values`."""
        inputs = [values[name] if name else None for name in self.inputs]
        for position in self.rule.static:
            if position < len(inputs) and not _is_static(inputs[position]):
                raise UnsupportedModelError(
                    f"{self.operator} node {self.name!r} needs the value of its input "
                    f"{self.inputs[position]!r} when the graph is traced, but it depends on the "
                    "data; make it a constant, or name it in `static`"
                )
        bodies = {
            name: functools.partial(graph.as_body, values) for name, graph in self.subgraphs.items()
        }
        counted = {"n_outputs": len(self.outputs)} if self.rule.counts_outputs else {}
        xp = np if not bodies and all(map(_is_static, inputs)) else jnp
        with np.errstate(all="ignore"):  # constants may hold what numpy warns of, as JAX does not
            results = self.rule.fn(xp, *inputs, **self.attributes, **bodies, **counted)
        if not isinstance(results, tuple):
            results = (results,)
        values.update((name, value) for name, value in zip(self.outputs, results) if name)


def _is_static(value: Array) -> bool:
    return value is None or isinstance(value, np.ndarray | np.generic)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of computation, and the constants that they read.

    Attributes:
        nodes: every node that is left after folding.
        constants: numpy arrays by name, fixed when the graph is traced.
        inputs: the names of the graph's inputs.
        outputs: the names of its outputs.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray[Any, Any]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @functools.cached_property
    def captured(self) -> tuple[str, ...]:
        """The values of an outer graph that a subgraph reads."""
        own = {
            *self.constants,
            *self.inputs,
            *(name for node in self.nodes for name in node.outputs),
        }
        read = [*(name for node in self.nodes for name in node.reads), *self.outputs]
        return tuple(dict.fromkeys(name for name in read if name not in own))

    @functools.cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that computes each value."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    @functools.cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.reads):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def needed_for(self, names: Iterable[str]) -> tuple[Node, ...]:
        """The nodes that `names` depend on, in order."""
        wanted, kept = set(names), []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.reads)
        return tuple(reversed(kept))

    def run(
        self,
        values: Values,
        wanted: Sequence[str],
        taps: Mapping[str, Array] | None = None,
        bypass: frozenset[str] = frozenset(),
    ) -> Values:
        """Compute what `wanted` depends on, and return all values by name.

        Args:
            values: the parameters and inputs by name.
            wanted: the names of values to compute.
            taps: what is added to a value before another node sees it.
            bypass: values that are taken to equal the first input of their node.
        """
        known = {**self.constants, **values}
        for node in self.needed_for(wanted):
            if bypass.intersection(node.outputs):
                known[node.outputs[0]] = known[node.inputs[0]]
            else:
                node(known)
            for name in (taps or {}).keys() & set(node.outputs):
                known[name] = known[name] + taps[name]
        return known

    def as_body(self, outer: Values, *inputs: Array) -> tuple[Array, ...]:
        """Run as the body of a control-flow operator that sees the outer graph's values."""
        captured = {name: outer[name] for name in self.captured}
        known = self.run({**captured, **dict(zip(self.inputs, inputs))}, self.outputs)
        return tuple(known[name] for name in self.outputs)
