"""A plain JAX function as a program: its intermediate values are found by tracing it.

A value is called by, in this order: the name that `jax.ad_checkpoint.checkpoint_name` gave it;
the `jax.named_scope` (or Flax module path) whose result it is; its scope and operation.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.extend import core
from onnxjax.graph import Graph, Step, Values, plainly

from xaimaps.backend import Array, Classifier, Layer, RectifierRule
from xaimaps.errors import LayerError, UnsupportedModelError
from xaimaps_jax._programs import Params, Rest, Tapped
from xaimaps_jax._rectifiers import JAX_RECTIFIERS, rectifying

VIEWS = frozenset(
    "reshape transpose broadcast_in_dim squeeze convert_element_type copy pad rev slice".split()
)
PROBE_SIZE = 224
PROBE_BATCH = 2


@dataclass(frozen=True, eq=False)
class Equation:
    """One step of a traced function, as a node of a graph of named values."""

    scope: str
    operator: str
    equation: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that it needs."""
        return self.inputs

    def __call__(self, values: Values) -> None:
        """Compute the outputs into `values`."""
        primitive = self.equation.primitive
        params = primitive.get_bind_params(self.equation.params)
        results = primitive.bind(*(values[name] for name in self.inputs), **params)
        results = results if primitive.multiple_results else [results]
        values.update(zip(self.outputs, results, strict=True))

    @property
    def aval(self) -> Any:
        """The shape and type of its first output."""
        return self.equation.outvars[0].aval


@dataclass(frozen=True, eq=False)
class Traced:
    """A function at one input shape.

    Attributes:
        graph: its equations, of nested compiled functions too.
        layers: the graph's own name for the value behind each user's name.
        outputs: how the graph's outputs make the function's.
    """

    graph: Graph
    layers: dict[str, Equation]
    outputs: Any

    def value(self, layer: str) -> str:
        """The graph's name of a layer's value."""
        return self.layers[layer].outputs[0]


class FunctionProgram:
    """A function `f(params, images) -> outputs` over batches of images with channels last.

    Args:
        fn: the function; it is traced, and never changed.
        params: an example of its parameters.
        input_shape: `(height, width, channels)`, None for a size that varies.
    """

    def __init__(
        self,
        fn: Callable[[Params, Array], Array],
        params: Params,
        input_shape: tuple[int | None, ...],
    ) -> None:
        self._fn = fn
        self._params = params
        self._input_shape = input_shape

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._input_shape

    @functools.cached_property
    def _layers(self) -> tuple[Layer, ...]:
        """Every float value that starts with the batch and is a matrix or a map."""
        return tuple(
            Layer(name, (None, *equation.aval.shape[1:]), equation.operator)
            for name, equation in self._probe.layers.items()
            if _is_layer(equation)
        )

    @functools.cached_property
    def _probe(self) -> Traced:
        height, width, channels = (size or PROBE_SIZE for size in self._input_shape)
        image = jax.ShapeDtypeStruct((PROBE_BATCH, height, width, channels), jnp.float32)
        return self._trace(self._params, image)

    @property
    def has_rectifiers(self) -> bool:
        return any(equation.operator in JAX_RECTIFIERS for equation in self._probe.layers.values())

    def layers(self) -> tuple[Layer, ...]:
        return self._layers

    def unlisted(self, name: str) -> Layer | None:
        return None

    def require_gradient(self, wrt: str) -> None:
        """A function is taken at its word."""

    def default_layer(self) -> Layer:
        spatial = [layer for layer in self._layers if layer.is_spatial]
        if not spatial:
            raise LayerError(
                "no value of this function has a spatial extent; use a gradient method"
            )
        return spatial[-1]

    def classifier(self, params: Params) -> Classifier:
        raise LayerError(
            "CAM needs the dense weights of the model's head, which a plain JAX function does not "
            "tell; use grad_cam, which equals it up to a factor"
        )

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], rectifier: RectifierRule | None
    ) -> tuple[Array, dict[str, Array]]:
        traced, known = self._run(params, images, rectifier)
        return _outputs(traced, known), {name: known[traced.value(name)] for name in keep}

    def split(
        self, params: Params, images: Array, layer: str, rectifier: RectifierRule | None
    ) -> tuple[Array, Rest]:
        traced, known = self._run(params, images, rectifier)
        cut = traced.value(layer)
        behind = traced.graph.depending_on(cut)
        before = {name: value for name, value in known.items() if name not in behind}

        def rest(activations: Array) -> Array:
            values = {**before, cut: activations}
            step = _step(rectifier)
            return _outputs(traced, traced.graph.run(values, traced.graph.outputs, step))

        return known[cut], rest

    def biases(self, params: Params, images: Array) -> tuple[dict[str, Array], Tapped]:
        raise UnsupportedModelError(
            "the biases of a plain JAX function cannot be told from its other values; explain the "
            "model's ONNX file, or use another method"
        )

    def _run(
        self, params: Params, images: Array, rectifier: RectifierRule | None
    ) -> tuple[Traced, Values]:
        traced = self._trace(params, images)
        leaves = jax.tree.leaves((params, images))
        values = dict(zip(traced.graph.inputs, leaves, strict=True))
        wanted = [*traced.graph.outputs, *map(traced.value, traced.layers)]
        return traced, traced.graph.run(values, wanted, _step(rectifier))

    def _trace(self, params: Params, images: Array) -> Traced:
        closed, shape = jax.make_jaxpr(self._fn, return_shape=True)(params, images)
        return _flattened(closed, jax.tree.structure(shape))


def _step(rectifier: RectifierRule | None) -> Step:
    return plainly if rectifier is None else rectifying(rectifier)


def _outputs(traced: Traced, known: Values) -> Array:
    outputs: Array = jax.tree.unflatten(
        traced.outputs, [known[name] for name in traced.graph.outputs]
    )
    return outputs


def _is_layer(equation: Equation) -> bool:
    aval = equation.aval
    return bool(
        jnp.issubdtype(aval.dtype, jnp.floating)
        and len(aval.shape) in (2, 4)
        and aval.shape[0] == PROBE_BATCH
        and equation.operator not in VIEWS
    )


def _flattened(closed: Any, outputs: Any) -> Traced:
    """Write a traced function as one list of equations over named values."""
    flat = _Flattener()
    inputs = tuple(flat.new() for _ in closed.jaxpr.invars)
    results = flat.add(closed, inputs, "")
    graph = Graph(cast("Any", tuple(flat.equations)), flat.constants, inputs, tuple(results))
    return Traced(graph, dict(zip(_names(flat.equations), flat.equations, strict=True)), outputs)


class _Flattener:
    """Collects the equations of a traced function and of the compiled functions that it calls."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.constants: dict[str, Array] = {}
        self._numbers = itertools.count()

    def new(self) -> str:
        """A name that no value has yet."""
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
    """What an equation does: the name of a known activation, or else of its primitive."""
    name: str = equation.primitive.name
    if name == "custom_jvp_call":
        inner = equation.params["call_jaxpr"].jaxpr.eqns
        return _operator(inner[0]) if len(inner) == 1 else name
    if name in ("jit", "pjit") and equation.params["name"] in JAX_RECTIFIERS:
        return str(equation.params["name"])
    if name == "max" and any(_is_zero(atom) for atom in equation.invars):
        return "relu"
    return name


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, core.Literal) and not jnp.any(atom.val)


def _names(equations: Sequence[Equation]) -> Iterator[str]:
    """A scope's last value has the scope's name, any other its operation's and a number."""
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
