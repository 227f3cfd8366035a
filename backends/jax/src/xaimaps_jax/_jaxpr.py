"""A plain JAX function as a network: a trace yields its intermediate values.

The name of a value is, in this order: the name that `jax.ad_checkpoint.checkpoint_name` gave it;
the `jax.named_scope` (or Flax module path) of which it is the result; or its scope and operation.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from onnxjax.graph import Graph, Values

from xaimaps import graph as description
from xaimaps.backend import Array
from xaimaps.errors import UnsupportedModelError
from xaimaps.graph import PROBE_BATCH, Network, Operation, axis_of
from xaimaps_jax._operations import Equation, operation_of
from xaimaps_jax._program import Params

IMAGES = "<images>"

ATOMIC = frozenset("relu relu6 leaky_relu elu selu celu log_softmax".split())
"""Functions of JAX that count as one operation each, although they are made of several."""


class FunctionNetwork(Network):
    """The network of a function `f(params, images) -> outputs`.

    Args:
        source: the function.
        params: an example of its parameters.
        input_shape: `(height, width, channels)`, None for a size that varies.
    """

    def __init__(
        self, source: FunctionSource, params: Params, input_shape: tuple[int | None, ...]
    ) -> None:
        super().__init__()
        self._source = source
        self._params = params
        self._input_shape = input_shape
        self._scopes: set[str] = set()

    def is_named(self, value: str) -> bool:
        return value in self._scopes

    def is_new(self, value: str) -> bool:
        return value in self._scopes or super().is_new(value)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._input_shape

    def trace(self, height: int, width: int) -> description.Graph:
        """Return the graph for images of this size; nothing is computed.

        Raises:
            UnsupportedModelError: the function fails on images of this size.
        """
        shape = (PROBE_BATCH, height, width, self._input_shape[2] or 3)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        graph = self._traced(image)
        nodes = cast("Sequence[Equation]", graph.needed_for(graph.outputs))
        self._scopes |= {node.scope for node in nodes if node.scope == node.outputs[0]}
        statics = {name: np.asarray(v) for name, v in graph.constants.items() if _is_static(v)}
        leaves = zip(graph.inputs, jax.tree.leaves((self._params, image)), strict=True)
        made = {node.outputs[0]: node.shape for node in nodes if _is_float(node.dtype)}
        return description.Graph(
            operations=tuple(operation_of(node, statics) for node in nodes),
            images=graph.inputs[-1],
            image_axes=tuple(axis_of(kind, n) for kind, n in zip("NHWC", shape, strict=True)),
            output=graph.outputs[0],
            shapes={**{name: tuple(leaf.shape) for name, leaf in leaves}, **made},
            statics=statics,
        )

    def _traced(self, image: Any) -> Graph:
        try:
            return self._source.graph(self._params, image)
        except Exception as error:  # the user's own code may raise anything
            first = str(error).partition("\n")[0].rstrip(".")
            raise UnsupportedModelError(
                f"the function does not run on images of the shape {image.shape} "
                f"({type(error).__name__}: {first}); check `params` and `input_shape`"
            ) from error


class FunctionSource:
    """The equations of a function, which is traced but not changed."""

    images = IMAGES
    fixed_batch: int | None = None
    output_names: tuple[str, ...] = ()

    def __init__(self, fn: Callable[[Params, Array], Array]) -> None:
        self._fn = fn

    def graph(self, params: Params, images: Array) -> Graph:
        """Return the function's equations, those of nested functions included."""
        return _flattened(jax.make_jaxpr(self._fn)(params, images))

    def values(self, params: Params, images: Array) -> Values:
        """Return the parameters and images by name."""
        leaves = jax.tree.leaves(params)
        return {**{_leaf(i): leaf for i, leaf in enumerate(leaves)}, IMAGES: images}

    def outputs(self, known: Values, graph: Graph) -> Array:
        """Return the function's result."""
        return known[graph.outputs[0]]

    def operation(self, node: Equation) -> Operation:
        """Return the operation of an equation."""
        return operation_of(node, {})

    def array(self, value: Array) -> Array:
        """Return a weight."""
        return value


def _leaf(index: int) -> str:
    return f"<parameter {index}>"


def _is_static(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float)


def _is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _flattened(closed: Any) -> Graph:
    """Convert a traced function to one list of equations over named values."""
    flat = _Flattener()
    *leaves, _ = closed.jaxpr.invars
    inputs = (*(_leaf(index) for index in range(len(leaves))), IMAGES)
    results = flat.add(closed, inputs, "")
    names = {
        equation.outputs[0]: name
        for name, equation in zip(_names(flat.equations), flat.equations, strict=True)
    }
    equations = tuple(_renamed(equation, names) for equation in flat.equations)
    outputs = tuple(names.get(name, name) for name in results)
    return Graph(cast("Any", equations), flat.constants, inputs, outputs)


def _renamed(equation: Equation, names: Mapping[str, str]) -> Equation:
    """Return an equation whose values have the names that users know."""
    inputs, outputs = (
        tuple(names.get(name, name) for name in group)
        for group in (equation.inputs, equation.outputs)
    )
    return replace(equation, inputs=inputs, outputs=outputs)


class _Flattener:
    """The equations of a traced function and of the compiled functions that it calls."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.constants: dict[str, Array] = {}
        self._numbers = itertools.count()

    def new(self) -> str:
        """Return an unused name."""
        return f"v{next(self._numbers)}"

    def constant(self, value: Array) -> str:
        name = self.new()
        self.constants[name] = value
        return name

    def add(self, closed: Any, inputs: Sequence[str], scope: str) -> list[str]:
        """Add a function's equations; return the names of its results."""
        names = dict(zip(closed.jaxpr.invars, inputs, strict=True))
        names.update(
            (var, self.constant(value))
            for var, value in zip(closed.jaxpr.constvars, closed.consts, strict=True)
        )

        def name_of(atom: Any) -> str:
            return self.constant(atom.val) if isinstance(atom, core.Literal) else names[atom]

        for equation in closed.jaxpr.eqns:
            path = "/".join(filter(None, (scope, str(equation.source_info.name_stack))))
            results = self._add_equation(equation, tuple(map(name_of, equation.invars)), path)
            names.update(zip(equation.outvars, results, strict=True))
        return [name_of(atom) for atom in closed.jaxpr.outvars]

    def _add_equation(self, equation: Any, inputs: tuple[str, ...], path: str) -> Sequence[str]:
        operator = _operator(equation)
        if operator in ("jit", "pjit"):
            return self.add(equation.params["jaxpr"], inputs, path)
        results = tuple(self.new() for _ in equation.outvars)
        scope, operator = (equation.params["name"], "") if operator == "name" else (path, operator)
        self.equations.append(Equation(scope, operator, equation, inputs, results))
        return results


def _operator(equation: Any) -> str:
    """Return the name of a known activation, or of the equation's primitive."""
    name: str = equation.primitive.name
    if name == "custom_jvp_call":
        inner = equation.params["call_jaxpr"].jaxpr.eqns
        return _operator(inner[0]) if len(inner) == 1 else name
    if name in ("jit", "pjit") and equation.params["name"] in ATOMIC:
        return str(equation.params["name"])
    if name == "max" and any(_is_zero(atom) for atom in equation.invars):  # jnp.maximum(x, 0)
        return "relu"
    return name


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and not np.any(atom.val)


def _names(equations: Sequence[Equation]) -> Iterator[str]:
    """Yield the name of each equation's value.

    The last value of a scope has the scope's name. Any other has that of its scope and operation,
    and a number if it is not the first.
    """
    last = {equation.scope: index for index, equation in enumerate(equations)}
    count: Counter[str] = Counter()
    for index, equation in enumerate(equations):
        path = "/".join(filter(None, (equation.scope, equation.operator)))
        is_result = equation.scope and last[equation.scope] == index
        yield (
            equation.scope
            if is_result
            else f"{path}_{count[path]}"
            if count[path] or not equation.operator
            else path
        )
        count[path] += not is_result
