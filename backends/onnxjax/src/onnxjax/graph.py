"""An ONNX graph as a pure JAX function of its parameters and inputs, with named values.

Weights are parameters: they are arguments of a compiled program and can be trained. Every other
constant stays in numpy, so that shape arithmetic is computed in int64 while JAX traces. Therefore
one graph serves every batch size and image size.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxjax._arrays import enter, is_static
from onnxjax._jax import jax, jnp
from onnxjax._limits import charge, require_possible
from onnxjax.errors import OnnxJaxError, UnsupportedModelError
from onnxjax.registry import Rule

Array = Any
Values = dict[str, Array]

UNFIT = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError),
    *(TypeError, ValueError),
)
"""The errors of a rule, numpy or JAX on inputs and attributes that do not fit together."""


@dataclass(frozen=True)
class Node:
    """One operator, resolved to its rule.

    Attributes:
        name: the node's name in the file, or that of its first output.
        operator: the ONNX operator.
        rule: the rule that computes it.
        inputs: value names, "" for a missing optional input.
        outputs: value names, "" for an unused output.
        attributes: the attributes by schema name, in Python's own types.
        subgraphs: the bodies of If, Loop and Scan.
        metadata: the exporter's notes about the node's origin.
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
        """The values that it needs, those of its subgraphs included."""
        captured = (name for graph in self.subgraphs.values() for name in graph.captured)
        return (*(name for name in self.inputs if name), *captured)

    @property
    def is_product(self) -> bool:
        """Whether it is made of sums of products of two inputs: a convolution or matrix product."""
        return self.rule.linear and self.rule.kind in ("conv", "dense", "matmul", "einsum")

    @property
    def is_sum(self) -> bool:
        """Whether it summarises its input along axes, as the statistics of a normalisation do."""
        return self.rule.kind in ("reduce", "global_average_pool")

    @property
    def is_addition(self) -> bool:
        """Whether it adds its inputs."""
        return self.operator in ("Add", "Sum")

    @property
    def is_planar(self) -> bool:
        """Whether its first input and output are (N, C, *spatial)."""
        return self.rule.planar and not self.attributes.get("channels_last")

    def __call__(self, values: Values) -> None:
        """Compute the outputs into `values`.

        Raises:
            UnsupportedModelError: the rule needs a static value, but it depends on the data; or
                the rule does not support these inputs or attributes.
        """
        inputs = [values[name] if name else None for name in self.inputs]
        self._require_static(inputs)
        try:
            results = self._compute(inputs, values)
        except OnnxJaxError as error:
            raise UnsupportedModelError(f"{self._label}: {error}") from None
        except jax.errors.JAXTypeError as error:
            raise UnsupportedModelError(
                f"{self._label} needs a value when the graph is traced that depends on the data; "
                "make it a constant, or run the model in ONNX Runtime"
            ) from error
        except UNFIT as error:
            raise UnsupportedModelError(
                f"{self._label} cannot run on inputs of {_described(inputs)} "
                f"({_summary(error)}); export the model again"
            ) from error
        if any(self.outputs[len(results) :]):
            raise UnsupportedModelError(
                f"{self._label} has {len(self.outputs)} outputs, but its rule gives "
                f"{len(results)}; export the model again, for inference"
            )
        values.update(
            (name, value) for name, value in zip(self.outputs, results, strict=False) if name
        )

    def _compute(self, inputs: list[Array], values: Values) -> tuple[Array, ...]:
        bodies = {
            name: functools.partial(graph.as_body, values) for name, graph in self.subgraphs.items()
        }
        counted = {"n_outputs": len(self.outputs)} if self.rule.counts_outputs else {}
        # a static node runs in numpy: its integers stay 64 bits wide and other rules can read them
        xp: Any = np if not bodies and all(map(is_static, inputs)) else jax.numpy
        if xp is not np and not bodies:
            inputs = [x if i in self.rule.static else enter(x) for i, x in enumerate(inputs)]
        run = functools.partial(self.rule.fn, **self.attributes, **bodies, **counted)
        with np.errstate(all="ignore"):  # numpy warns of NaN in constants, and JAX does not
            if xp is np:
                charge(self.rule, functools.partial(run, jnp), inputs)
            results = run(xp, *inputs)
        results = results if isinstance(results, tuple) else (results,)
        require_possible(results)
        return results

    def _require_static(self, inputs: Sequence[Array]) -> None:
        for position in self.rule.static:
            if position < len(inputs) and not is_static(inputs[position]):
                raise UnsupportedModelError(
                    f"{self._label} needs the value of its input {self.inputs[position]!r} when "
                    "the graph is traced, but it depends on the data; make it a constant, give "
                    "the graph's input that it comes from as a numpy array, or run the model in "
                    "ONNX Runtime"
                )

    @property
    def _label(self) -> str:
        return f"{self.operator} node {self.name!r}"


def _described(inputs: Iterable[Array]) -> str:
    shapes = (f"{x.dtype}{list(x.shape)}" for x in inputs if hasattr(x, "shape"))
    return "shapes " + (", ".join(shapes) or "none")


def _summary(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0].rstrip(". ")[:200]
    return f"{type(error).__name__}: {first}"


Step = Callable[[Node, Values], None]
"""A function that runs a node: it adds the node's outputs to the values."""


def plainly(node: Node, values: Values) -> None:
    """Run a node by its rule."""
    node(values)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of computation, and the constants that they read.

    Attributes:
        nodes: the nodes that are not folded.
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

    def needed_for(self, names: Iterable[str], given: Container[str] = ()) -> tuple[Node, ...]:
        """Return the nodes that `names` depend on, in order, if the values `given` are known."""
        wanted, kept = {name for name in names if name not in given}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(name for name in node.reads if name not in given)
        return tuple(reversed(kept))

    def run(self, values: Values, wanted: Sequence[str], step: Step = plainly) -> Values:
        """Compute the values `wanted`, and return all values by name.

        Only the nodes that `wanted` depends on are run.

        Args:
            values: the parameters and inputs by name. Values from inside the graph may be given
                too; the nodes that compute them are then not run.
            wanted: the names of values to compute.
            step: runs a node, given the values so far.
        """
        known = {**self.constants, **values}
        for node in self.needed_for(wanted, given=values):
            step(node, known)
        return known

    def depending_on(self, name: str) -> frozenset[str]:
        """Return the values that depend on the value `name`, itself included."""
        changed = {name}
        for node in self.nodes:
            if changed.intersection(node.reads):
                changed.update(filter(None, node.outputs))
        return frozenset(changed)

    def joins(self, inputs: Iterable[str]) -> frozenset[str]:
        """Return the sums of values that all depend on `inputs`, if several nodes read them.

        In a residual network, these are the inputs of its blocks.
        """
        data = frozenset[str]().union(*map(self.depending_on, inputs))
        readers = Counter(name for node in self.nodes for name in node.reads)
        return frozenset(
            node.outputs[0]
            for node in self.nodes
            if node.is_addition and data.issuperset(node.reads) and readers[node.outputs[0]] > 1
        )

    def as_body(self, outer: Values, *inputs: Array) -> tuple[Array, ...]:
        """Run as the body of a control-flow operator, which reads values of the outer graph."""
        captured = {name: outer[name] for name in self.captured}
        known = self.run({**captured, **dict(zip(self.inputs, inputs, strict=True))}, self.outputs)
        return tuple(known[name] for name in self.outputs)
