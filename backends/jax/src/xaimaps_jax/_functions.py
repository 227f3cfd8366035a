"""A JAX function as a network: a trace yields its intermediate values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from onnxjax.graph import Graph, Values
from onnxjax.precision import rounded

from xaimaps import graph as description
from xaimaps.backend import Array, ModelInfo
from xaimaps.errors import LayerError, ModelLoadError
from xaimaps.graph import PROBE_BATCH, SIDES, Layer, Network, Operation, axis_of, require_rows
from xaimaps_jax._flatten import Flat, Place
from xaimaps_jax._operations import FOLLOWED, SEPARABLE, Equation, operation_of
from xaimaps_jax._program import Params
from xaimaps_jax._tracing import tracing

IMAGES = "<images>"

_naming = jax.make_user_context(default_value=False)
"""Separates our traces from the user's in JAX's caches.

Functions that the user has compiled are traced again, and no trace with taps remains for them.
"""


class FunctionNetwork(Network):
    """The network of a function `f(params, images) -> outputs`.

    Args:
        source: the function.
        params: an example of its parameters.
        input_shape: `(*spatial, channels)`, None for a size that varies.
    """

    def __init__(
        self, source: FunctionSource, params: Params, input_shape: tuple[int | None, ...]
    ) -> None:
        super().__init__()
        self._source = source
        self._params = params
        self._input_shape = input_shape
        self._scopes: set[str] = set()
        self._taps: set[str] = set()
        self._names: set[str] = set()
        self._hidden: set[str] = set()

    def is_named(self, value: str) -> bool:
        return value in self._scopes

    def is_new(self, value: str) -> bool:
        return value in self._scopes or super().is_new(value)

    def is_listed(self, value: str) -> bool:
        """Return whether a value is a module's result, or listed because no module has a name."""
        return value in self._taps if self._taps else super().is_listed(value)

    def values(self) -> list[str]:
        return [value for value in super().values() if value in self._names]

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """The name of a module that is called several times, for each of its results."""
        numbered = (value for value in self._scopes if value.rpartition(":")[2].isdecimal())
        return {value: (value.rpartition(":")[0],) for value in numbered}

    def unlisted(self, name: str) -> Layer | None:
        if name in self._hidden:
            raise LayerError(
                f"the layer {name!r} is inside a loop or condition that JAX runs as a whole; "
                "name a value outside of it, or call the model so that it unrolls the loop"
            )
        return super().unlisted(name)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._input_shape

    def note(self, info: ModelInfo) -> None:
        """Add what the graph tells a user about the model."""
        info.note_output(self._source.paths)
        if self.usual.ending is not None:
            info.note_ending(self.usual.ending)
        if self.usual.step is not None:
            info.note_step(self.usual.step)

    def trace(self, *size: int) -> description.Graph:
        """Return the graph for images of this size; nothing is computed."""
        shape = (PROBE_BATCH, *size, self._input_shape[-1] or 3)
        image = jax.ShapeDtypeStruct(shape, jnp.float32)
        traced = self._source.trace(self._params, image)
        graph = traced.whole
        nodes = cast("tuple[Equation, ...]", graph.needed_for(graph.outputs))
        self._scopes |= {node.scope for node in nodes if node.scope == node.outputs[0]}
        self._taps |= {node.outputs[0] for node in nodes if node.is_tap}
        self._scopes |= self._taps
        self._names |= set(traced.names.values())
        self._hidden |= traced.hidden
        data = graph.depending_on(IMAGES)
        statics = {name: np.asarray(v) for name, v in graph.constants.items() if _is_static(v)}
        leaves = zip(graph.inputs, jax.tree.leaves((self._params, image)), strict=True)
        made = {node.outputs[0]: node.shape for node in nodes if _is_float(node.dtype)}
        return description.Graph(
            operations=tuple(operation_of(node, statics, data) for node in nodes),
            images=graph.inputs[-1],
            image_axes=tuple(map(axis_of, f"N{SIDES[len(size)]}C", shape)),
            output=graph.outputs[0],
            shapes={**{name: np.shape(leaf) for name, leaf in leaves}, **made},
            statics=statics,
        )


@dataclass(frozen=True)
class Traced:
    """A function at one shape of images.

    Attributes:
        body: the traced function, with the output to explain as its only result.
        whole: its equations, with all calls opened.
        names: the names of their first results, by place.
        hidden: the names of the values inside of calls that cannot be opened.
        has_closable: whether `whole` has calls that could stay closed.
    """

    body: Any
    whole: Graph
    names: Mapping[Place, str]
    hidden: frozenset[str]
    has_closable: bool


class FunctionSource:
    """The equations of a function, which is traced but not changed.

    Args:
        fn: a function of parameters and images with channels last.
        output: the output to explain, by its path in the result; None for the first.
        root: the named scope of the whole function, which names of layers leave out.
    """

    images = IMAGES
    fixed_batch: int | None = None
    output_names: tuple[str, ...] = ()

    def __init__(
        self, fn: Callable[[Params, Array], Any], output: str | None = None, root: str = ""
    ) -> None:
        self.paths: tuple[str, ...] = ()
        """The paths of the outputs in the result, that to explain first; known after a trace."""
        self._fn = fn
        self._output = output
        self._root = root

    def trace(self, params: Params, images: Any) -> Traced:
        """Return the function's equations, those of nested functions included.

        Raises:
            UnsupportedModelError: the function cannot be traced, or has no row for each image.
        """
        body = self._body(params, images)
        flat = Flat(self._root)
        results = flat.add(body, _inputs(body))
        names = flat.names()
        whole = flat.graph(_inputs(body), results, names)
        return Traced(body, whole, names, frozenset(flat.hidden), flat.has_closable)

    def graph(self, params: Params, images: Array, wanted: Collection[str] | None) -> Graph:
        """Return the equations; only the calls that compute the values `wanted` are opened."""
        traced = self.trace(params, images)
        if wanted is None or not traced.has_closable:
            return traced.whole
        places = [place for place, name in traced.names.items() if name in wanted]
        opened = {place[:depth] for place in places for depth in range(1, len(place))}
        flat = Flat(self._root, opened)
        results = flat.add(traced.body, _inputs(traced.body))
        return flat.graph(_inputs(traced.body), results, traced.names)

    def _body(self, params: Params, images: Any) -> Any:
        def explained(params: Params, images: Array) -> Array:
            outputs = _paths(self._fn(params, images))
            chosen = self._chosen(outputs)
            self.paths = tuple(dict.fromkeys((chosen, *outputs)))
            return outputs[chosen]

        with _naming(True), tracing(images.shape):
            body = jax.make_jaxpr(explained)(params, images)
        require_rows(body.out_avals[0], images.shape[0])
        return body

    def _chosen(self, outputs: Mapping[str, Any]) -> str:
        """Return the path of the output to explain.

        Raises:
            ModelLoadError: there is no such output, or none at all.
        """
        name = next(iter(outputs), None) if self._output is None else self._output
        if name is not None and name in outputs:
            return name
        raise ModelLoadError(
            f"`output` must be one of {', '.join(map(repr, outputs)) or 'none'}, the model's "
            f"outputs of floats, got {self._output!r}"
        )

    def values(self, params: Params, images: Array) -> Values:
        """Return the parameters and images by name."""
        return {**self.named(params), IMAGES: images}

    def named(self, params: Params) -> Values:
        """Return the parameters by the names that the equations read."""
        return {_leaf(i): leaf for i, leaf in enumerate(jax.tree.leaves(params))}

    def with_named(self, params: Params, weights: Values) -> Params:
        """Return the parameters, with some replaced by others, by name."""
        leaves = {**self.named(params), **weights}
        return jax.tree.unflatten(jax.tree.structure(params), leaves.values())

    def outputs(self, known: Values, graph: Graph) -> Array:
        """Return the function's result."""
        return known[graph.outputs[0]]

    def operation(self, node: Equation) -> Operation:
        """Return the operation of an equation."""
        return operation_of(node, {})

    def is_separable(self, node: Equation) -> bool:
        """Return whether an equation can run on arrays of other sizes, as on fewer tokens."""
        return node.operator in SEPARABLE

    def is_exact(self, node: Equation, operation: Operation) -> bool:
        """Return whether an operation's flow gives all that a part of its result depends on.

        A function may have other equations for other numbers of images than the trace had.
        """
        own = self.operation(node)
        is_same = (own.reads, own.flow) == (operation.reads, operation.flow)
        return is_same and (node.operator in SEPARABLE | FOLLOWED or node.is_elementwise)

    def array(self, value: Array) -> Array:
        """Return a weight."""
        return value

    def rounded(self, params: Params) -> Params:
        """Return the parameters, with the matrices and kernels in bfloat16."""
        return jax.tree.map(lambda x: rounded(x) if jnp.ndim(x) > 1 else x, params)


def _inputs(body: Any) -> tuple[str, ...]:
    *leaves, _ = body.jaxpr.invars
    return (*(_leaf(index) for index in range(len(leaves))), IMAGES)


def _leaf(index: int) -> str:
    return f"<parameter {index}>"


def _is_static(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float)


def _is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _paths(outputs: Any) -> dict[str, Array]:
    """Return the arrays of floats in a function's result, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(outputs)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") or "output": leaf
        for path, leaf in leaves
        if hasattr(leaf, "dtype") and _is_float(leaf.dtype)
    }
