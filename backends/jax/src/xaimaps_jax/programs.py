"""Models as JAX functions whose inner values have names.

One mechanism serves ONNX graphs and JAX functions: a named value can be kept, and the network
can be cut there, which gives the rest as a function of that value. The gradient at a layer is
the gradient of the rest, so nothing before the layer is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from xaimaps.backend import Array, Classifier, Layer, RectifierRule
from xaimaps_jax.onnx.analysis import Analysis
from xaimaps_jax.onnx.biases import node_bias
from xaimaps_jax.onnx.graph import Step
from xaimaps_jax.onnx.steps import bypassing, rectifying, tapping

Params = Any
Rest = Callable[[Array], Array]
Tapped = Callable[[Array, dict[str, Array]], Array]


class Program(Protocol):
    """What the backend needs of a model; images and values have channels last."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(height, width, channels)`, None where any size will do."""

    def layers(self) -> tuple[Layer, ...]:
        """The useful layers in order of computation."""

    def default_layer(self) -> Layer:
        """The last layer with a spatial extent."""

    def classifier(self, params: Params) -> Classifier:
        """The pooling and dense head."""

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], rectifier: RectifierRule | None
    ) -> tuple[Array, dict[str, Array]]:
        """The outputs, and the values to keep."""

    def split(
        self, params: Params, images: Array, layer: str, rectifier: RectifierRule | None
    ) -> tuple[Array, Rest]:
        """The value of a layer, and the outputs as a function of it."""

    def biases(self, params: Params, images: Array) -> tuple[dict[str, Array], Tapped]:
        """The bias of each value that has one, and the outputs with something added to these."""


class OnnxProgram:
    """An ONNX graph over batches of images."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._graph = analysis.model.graph

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        declared = self._analysis.input.shape or ()
        sizes = dict(zip(self._analysis.input_layout, declared, strict=True))
        return sizes["H"], sizes["W"], sizes["C"]

    def layers(self) -> tuple[Layer, ...]:
        return self._analysis.layers()

    def default_layer(self) -> Layer:
        return self._analysis.default_layer()

    def classifier(self, params: Params) -> Classifier:
        layer, name, is_transposed = self._analysis.head()
        return Classifier(layer, params[name].T if is_transposed else params[name])

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], rectifier: RectifierRule | None
    ) -> tuple[Array, dict[str, Array]]:
        def run(images: Array) -> tuple[Array, dict[str, Array]]:
            values = {**params, self._analysis.input.name: self._to_graph(images)}
            known = self._graph.run(values, [self._output, *keep], self._step(rectifier))
            return known[self._output], {name: self._shown(name, known[name]) for name in keep}

        result: tuple[Array, dict[str, Array]] = self._per_image(run)(images)
        return result

    def split(
        self, params: Params, images: Array, layer: str, rectifier: RectifierRule | None
    ) -> tuple[Array, Rest]:
        step = self._step(rectifier)
        if self._analysis.fixed_batch == 1:
            return self._split_each(params, images, layer, step)
        values = {**params, self._analysis.input.name: self._to_graph(images)}
        known = self._graph.run(values, [self._output], step)
        behind = self._graph.depending_on(layer)
        before = {name: value for name, value in known.items() if name not in behind}

        def rest(activations: Array) -> Array:
            cut = {**before, layer: self._hidden(layer, activations)}
            return self._graph.run(cut, [self._output], step)[self._output]

        return self._shown(layer, known[layer]), rest

    def _split_each(
        self, params: Params, images: Array, layer: str, step: Step
    ) -> tuple[Array, Rest]:
        """Cut a graph that takes one image at a time; what passes by the layer runs again."""

        def rest(image: Array, activations: Array) -> Array:
            values = {
                **params,
                self._analysis.input.name: self._to_graph(image),
                layer: self._hidden(layer, activations),
            }
            return self._graph.run(values, [self._output], step)[self._output]

        kept = self.apply(params, images, [layer], None)[1]
        return kept[layer], lambda activations: self._per_image(rest)(images, activations)

    def biases(self, params: Params, images: Array) -> tuple[dict[str, Array], Tapped]:
        source, step = self._analysis.input.name, self._step(None)
        data = self._graph.depending_on(source)

        def found(images: Array) -> dict[str, Array]:
            values = {**params, source: self._to_graph(images)}
            known = self._graph.run(values, [self._output], step)
            biases = {
                node.outputs[0]: node_bias(node, known, data, step) for node in self._analysis.nodes
            }
            return {name: self._shown(name, b) for name, b in biases.items() if b is not None}

        def tapped(images: Array, taps: dict[str, Array]) -> Array:
            hidden = {name: self._hidden(name, tap) for name, tap in taps.items()}
            values = {**params, source: self._to_graph(images)}
            return self._graph.run(values, [self._output], tapping(hidden, step))[self._output]

        return self._per_image(found)(images), self._per_image(tapped)

    def _per_image(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Run a graph whose batch is fixed to one image on each image by itself."""
        if self._analysis.fixed_batch != 1:
            return run

        def single(*arrays: Any) -> Any:
            batch_of_one = jax.tree.map(lambda a: a[None], arrays)
            return jax.tree.map(lambda a: a[0], run(*batch_of_one))

        return jax.vmap(single)

    @property
    def _output(self) -> str:
        return self._analysis.output

    def _step(self, rectifier: RectifierRule | None) -> Step:
        end = self._analysis.activation
        step = bypassing(frozenset(end.outputs) if end else frozenset())
        return step if rectifier is None else rectifying(rectifier, step)

    def _to_graph(self, images: Array) -> Array:
        axes = "NHWC"
        return jnp.transpose(images, [axes.index(axis) for axis in self._analysis.input_layout])

    def _shown(self, name: str, value: Array) -> Array:
        """A value of the graph with channels last."""
        shaped = self._analysis.shapes.get(name)
        return value if shaped is None else jnp.transpose(value, shaped.to_channels_last)

    def _hidden(self, name: str, value: Array) -> Array:
        """The inverse of `_shown`."""
        shaped = self._analysis.shapes.get(name)
        if shaped is None:
            return value
        order = shaped.to_channels_last
        return jnp.transpose(value, [order.index(axis) for axis in range(len(order))])
