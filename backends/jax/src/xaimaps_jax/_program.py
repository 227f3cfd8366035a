"""A network as a JAX function whose intermediate values have names.

One mechanism serves ONNX graphs and JAX functions: a named value can be kept, and the network can
be cut there. The rest of the network is then a function of that value. The gradient at a layer is
the gradient of the rest, so nothing before the layer is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from onnxjax.graph import Graph, Step, Values
from onnxjax.hooks import keeping, tapping
from onnxjax.precision import Precision, computing, multiplying

from xaimaps.backend import Array
from xaimaps.errors import UnsupportedModelError
from xaimaps.graph import Graph as Described
from xaimaps.graph import Layout, Network, Operation, require_rows, with_rows
from xaimaps.propagation import Change, Rules
from xaimaps_jax._biases import biases
from xaimaps_jax._parts import in_parts
from xaimaps_jax._rules import changing

Params = Any
Rest = Callable[[Array], Array]
Tapped = Callable[[Array, dict[str, Array]], Array]


class Source(Protocol):
    """The nodes of a network; images have channels last."""

    images: str
    """The name of the images."""

    fixed_batch: int | None
    """The batch size that the model requires, or None."""

    output_names: tuple[str, ...]
    """The names of all outputs; none for a function."""

    def graph(self, params: Params, images: Array, wanted: Collection[str] | None) -> Graph:
        """Return the nodes for images of this shape.

        Args:
            params: the parameters.
            images: the images.
            wanted: the values that a node has to make; None for all. Others may stay inside of
                calls, which keep their own derivatives and memory.
        """

    def values(self, params: Params, images: Array) -> Values:
        """Return the inputs of the nodes, parameters and images, by name."""

    def outputs(self, known: Values, graph: Graph) -> Array:
        """Return the model's outputs from all computed values."""

    def operation(self, node: Any) -> Operation:
        """Return the operation of a node."""

    def is_separable(self, node: Any) -> bool:
        """Return whether a node can run on arrays of other sizes, as on fewer tokens."""

    def is_exact(self, node: Any, operation: Operation) -> bool:
        """Return whether an operation's flow gives all that a part of its result depends on.

        Args:
            node: the node that runs.
            operation: the analysed operation that makes the same value.
        """

    def array(self, value: Array) -> Array:
        """Return a weight as an array."""

    def rounded(self, params: Params) -> Params:
        """Return the parameters, with the factors of products in bfloat16."""

    def named(self, params: Params) -> Values:
        """Return the parameters by the names that the nodes read."""

    def with_named(self, params: Params, weights: Values) -> Params:
        """Return the parameters, with some replaced by others, by name."""


class Program:
    """A network over batches of images.

    Args:
        network: the analysis of the network.
        source: the source of its nodes.
        precision: that of its values and products.
        known: values of its nodes for the images that it will run on, which are not computed; of
            a graph that takes one image, with an axis of images in front.
    """

    def __init__(
        self,
        network: Network,
        source: Source,
        precision: Precision = "float32",
        known: Values | None = None,
    ) -> None:
        self.network = network
        self.precision = precision
        self.source = source
        self._known = known or {}

    def at(self, precision: Precision) -> Program:
        """Return the same network in another precision."""
        return Program(self.network, self.source, precision)

    def knowing(self, values: Values) -> Program:
        """Return the same network with known values, which `apply` and `split` do not compute."""
        return Program(self.network, self.source, self.precision, values)

    def rounded(self, params: Params) -> Params:
        """Return the parameters, with the factors of products in bfloat16."""
        return self.source.rounded(params)

    def layers(self, params: Params) -> dict[str, dict[str, Array]]:
        """Return the weights of floats of each layer by name."""
        known = self.source.named(params)
        floats = {name for name, one in known.items() if jnp.issubdtype(one.dtype, jnp.floating)}
        layers = self.network.usual.layer_weights.items()
        return {layer: {n: known[n] for n in names if n in floats} for layer, names in layers}

    def weight(self, params: Params, name: str) -> Array:
        """Return a weight, or a value that the model computes from weights, as a matrix."""
        images = jnp.zeros((1, *self.network.usual_shape))
        graph = self._nodes(params, images, [name])
        step = computing(self.precision, graph, [name])
        known = graph.run(self.source.values(params, images), [name], step)
        weights = jnp.asarray(self.source.array(known[name]), images.dtype)
        return weights.reshape(weights.shape[:2])  # those of a 1x1 convolution have two more axes

    @property
    def has_several_outputs(self) -> bool:
        return len(self.source.output_names) > 1

    def named_outputs(self, params: Params, images: Array) -> dict[str, Array]:
        """Return all outputs by name."""
        names = self.source.output_names
        graph = self._nodes(params, images, names)
        step = computing(self.precision, graph, names)
        known = graph.run(self.source.values(params, images), names, step)
        return {name: with_rows(known[name], len(images)) for name in names}

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], rules: Rules | None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the outputs, and the values to keep."""
        if rules is not None and rules.compares:
            return self._compared(params, images, rules), {}

        def run(images: Array, given: Values) -> tuple[Array, dict[str, Array]]:
            changes = self._changes(images, rules)
            graph = self.graph(params, images, keep, changes)
            wanted = [*graph.outputs, *keep]
            step = self.step(images, graph, changes, wanted=wanted)
            values = {**self.source.values(params, images), **self._own(given)}
            known = graph.run(values, wanted, step)
            kept = {name: self._layout(name, images).show(jnp, known[name]) for name in keep}
            return self.source.outputs(known, graph), kept

        result: tuple[Array, dict[str, Array]] = self.per_image(run)(images, self._known)
        return result

    def _compared(self, params: Params, images: Array, rules: Rules) -> Array:
        """Return the outputs of images and of the references behind them, compared by rules."""
        images, references = jnp.split(images, 2)

        def run(images: Array, references: Array) -> tuple[Array, Array]:
            changes = self._changes(images, rules)
            graph = self.graph(params, images, (), changes)
            values, wanted = self.source.values(params, references), graph.outputs
            before = graph.run(values, wanted, self.step(references, graph))
            step = self.step(images, graph, changes, reference=before)
            after = graph.run(self.source.values(params, images), wanted, step)
            return self.source.outputs(after, graph), self.source.outputs(before, graph)

        return jnp.concat(self.per_image(run)(images, jax.lax.stop_gradient(references)))

    def split(
        self, params: Params, images: Array, layer: str, rules: Rules | None
    ) -> tuple[Array, Rest]:
        """Return the value of a layer, and the outputs as a function of it."""
        if self.source.fixed_batch == 1:
            return self._split_each(params, images, layer, rules)
        changes = self._changes(images, rules, layer)
        graph = self.graph(params, images, [layer], changes)
        wanted = [*graph.outputs, layer]
        step = self.step(images, graph, changes, wanted=wanted)
        values = {**self.source.values(params, images), **self._known}
        known = graph.run(values, wanted, step)
        # values that bypass the layer, as in a skip connection, are constants of the rest
        before = without(graph, known, [layer])
        layout = self._layout(layer, images)

        def rest(activations: Array) -> Array:
            cut = {**before, layer: layout.hide(jnp, activations, known[layer])}
            return self.source.outputs(graph.run(cut, graph.outputs, step), graph)

        return layout.show(jnp, known[layer]), rest

    def _split_each(
        self, params: Params, images: Array, layer: str, rules: Rules | None
    ) -> tuple[Array, Rest]:
        """Cut a graph that takes one image at a time.

        Nodes that bypass the layer run again in every call of the rest, unless they are known.
        """
        layout = self._layout(layer, images)

        def rest(image: Array, activations: Array, given: Values) -> Array:
            changes = self._changes(image, rules, layer)
            graph = self.graph(params, image, [layer], changes)
            step = self.step(image, graph, changes, wanted=[*graph.outputs, layer])
            before = without(graph, self._own(given), [layer])
            values = {**self.source.values(params, image), **before}
            original = graph.run(values, [layer], step)[layer] if layout.has_others else None
            values[layer] = layout.hide(jnp, activations, original)
            return self.source.outputs(graph.run(values, graph.outputs, step), graph)

        _, kept = self.apply(params, images, (layer,), rules)
        run = self.per_image(rest)
        return kept[layer], lambda activations: run(images, activations, self._known)

    def biases(self, params: Params, images: Array) -> tuple[dict[str, Array], Tapped]:
        """Return the biases by value, and the outputs if these values are changed."""
        shapes: dict[str, tuple[int, ...]] = {}

        def found(images: Array) -> dict[str, Array]:
            graph = self._nodes(params, images, None)
            step = self.step(images, graph)
            known = graph.run(self.source.values(params, images), graph.outputs, step)
            nodes = graph.needed_for(graph.outputs)
            kept = biases(nodes, self.source.operation, known, self.source.images, step)
            shapes.update((name, bias.shape) for name, bias in kept.items())
            return {name: self._by_image(name, bias, images) for name, bias in kept.items()}

        def tapped(images: Array, taps: dict[str, Array]) -> Array:
            hidden = {
                name: self._from_images(name, tap, images, shapes[name])
                for name, tap in taps.items()
            }
            graph = self._nodes(params, images, None)
            step = tapping(hidden, self.step(images, graph))
            known = graph.run(self.source.values(params, images), graph.outputs, step)
            return self.source.outputs(known, graph)

        return self.per_image(found)(images), self.per_image(tapped)

    def per_image(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Run a graph with a fixed batch of one image on each image separately."""
        if self.source.fixed_batch != 1:
            return run

        def single(*arrays: Any) -> Any:
            batch_of_one = jax.tree.map(lambda a: a[None], arrays)
            return jax.tree.map(_only_row, run(*batch_of_one))

        return jax.vmap(single)

    def _own(self, given: Values) -> Values:
        """Return known values as the graph has them, which may take one image at a time."""
        return {n: v[0] for n, v in given.items()} if self.source.fixed_batch == 1 else given

    def description(self, images: Array) -> Described:
        return self.network.graph(*images.shape[1:-1])

    def graph(
        self, params: Params, images: Array, keep: Sequence[str], changes: Sequence[Change]
    ) -> Graph:
        """Return the nodes, with those that make the values that are kept or changed."""
        described = self.description(images)
        replaced = described.ending.replaced if described.ending else {}
        changed = {
            value
            for change in changes
            for one in change.operations
            for value in one.needs + one.makes
        }
        return self._nodes(params, images, {*keep, *replaced, *replaced.values(), *changed})

    def _nodes(self, params: Params, images: Array, wanted: Collection[str] | None) -> Graph:
        """Return the nodes that make the values `wanted`; calls that stay closed round nothing."""
        if self.precision == "bfloat16":
            params, wanted = jax.tree.map(_unrounded, params), None
        with multiplying(self.precision):
            return self.source.graph(params, images, wanted)

    def step(
        self,
        images: Array,
        graph: Graph,
        changes: Sequence[Change] = (),
        reference: Values | None = None,
        wanted: Collection[str] | None = None,
    ) -> Step:
        """Return a step that bypasses the ending and changes derivatives.

        Args:
            images: the images.
            graph: the nodes.
            changes: the operations that have another derivative.
            reference: the values to which the changes compare.
            wanted: the values that are read whole; None for all.
        """
        described = self.description(images)
        ending = described.ending
        computed = computing(self.precision, graph, graph.outputs)
        plain = keeping(graph, [self.source.images], computed)
        if wanted is not None and not changes:
            exact, separable = self.source.is_exact, self.source.is_separable
            plain = in_parts(described, graph, wanted, exact, separable, plain)
        step = bypassing(ending.replaced, plain) if ending else plain
        return changing(changes, graph, self.source.array, step, reference or {})

    def _changes(
        self, images: Array, rules: Rules | None, cut: str | None = None
    ) -> Sequence[Change]:
        """Return the operations that have another derivative, except across a cut."""
        if rules is None:
            return ()
        return [one for one in rules.changes(self.description(images)) if cut not in one.inner]

    def _layout(self, layer: str, images: Array) -> Layout:
        return self.network.layout(layer, *images.shape[1:-1])

    def _by_image(self, name: str, value: Array, images: Array) -> Array:
        """Return a value with channels last, or `(N, values)` if it has no such layout.

        Raises:
            UnsupportedModelError: no axis can be split into images.
        """
        if layout := self._whole(name, images):
            return layout.show(jnp, value)
        return self.flat(name, value, images)

    def flat(self, name: str, value: Array, images: Array) -> Array:
        """Return a value as `(N, values)`, or a scalar as it is.

        Raises:
            UnsupportedModelError: no axis can be split into images.
        """
        axis = self._batch_axis(name, images)
        if value.ndim and value.shape[axis] % len(images):
            raise UnsupportedModelError(
                f"it cannot be told which part of the value {name!r} is of which image; explain "
                "one image at a time (`batch_size=1`), or use another method"
            )
        return jnp.moveaxis(value, axis, 0).reshape(len(images), -1) if value.ndim else value

    def _from_images(self, name: str, value: Array, images: Array, shape: tuple[int, ...]) -> Array:
        """Return the inverse of `_by_image`, for a value of that shape."""
        if layout := self._whole(name, images):
            return layout.hide(jnp, value)
        return self.shaped(name, value, images, shape)

    def shaped(self, name: str, value: Array, images: Array, shape: tuple[int, ...]) -> Array:
        """Return the inverse of `flat`, for a value of that shape."""
        if not shape:
            return value
        axis = self._batch_axis(name, images)
        rest = shape[:axis] + shape[axis + 1 :]
        return jnp.moveaxis(value.reshape(shape[axis], *rest), 0, axis)

    def _batch_axis(self, name: str, images: Array) -> int:
        """Return the axis of the images, with or without their positions."""
        axes = self.description(images).axes.get(name, ())
        return next((i for i, axis in enumerate(axes) if axis and axis[0].kind == "N"), 0)

    def _whole(self, name: str, images: Array) -> Layout | None:
        """Return the layout of a value, unless it omits a part of the value."""
        layout = self.description(images).layouts.get(name)
        return None if layout is None or layout.has_others else layout


def without(graph: Graph, known: Values, names: Collection[str]) -> Values:
    """Return the values that depend on none of some values."""
    behind = set[str]().union(*map(graph.depending_on, names))
    return {name: value for name, value in known.items() if name not in behind}


def _only_row(array: Array) -> Array:
    require_rows(array, 1)
    return array[0]


def _unrounded(array: Array) -> Any:
    """Return what a function is traced for instead of a parameter in bfloat16."""
    dtype = jnp.float32 if array.dtype == jnp.bfloat16 else array.dtype
    return jax.ShapeDtypeStruct(array.shape, dtype)


def bypassing(replaced: Mapping[Any, Any], step: Step) -> Step:
    """Return a step that replaces some values by others."""

    def run(node: Any, values: Values) -> None:
        if node.outputs[0] in replaced:
            values[node.outputs[0]] = values[replaced[node.outputs[0]]]
        else:
            step(node, values)

    return run
