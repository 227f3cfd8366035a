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
from onnxjax._ops.convolution import Kernel
from onnxjax.graph import Step
from onnxjax.hooks import bypassing, tapping
from xaimaps_onnx.analysis import Analysis
from xaimaps_onnx.layouts import Layout, as_scores

from xaimaps.backend import INPUT, Array, Classifier, Layer, RectifierRule
from xaimaps.errors import UnsupportedModelError
from xaimaps_jax._biases import biases
from xaimaps_jax._gradients import require_gradient
from xaimaps_jax._rectifiers import RECTIFIERS, rectifying

Params = Any
Rest = Callable[[Array], Array]
Tapped = Callable[[Array, dict[str, Array]], Array]


class Program(Protocol):
    """What the backend needs of a model; images and values have channels last."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(height, width, channels)`, None where any size will do."""

    @property
    def has_rectifiers(self) -> bool:
        """Whether a rectifier rule would change anything."""

    def layers(self) -> tuple[Layer, ...]:
        """The useful layers in order of computation."""

    def unlisted(self, name: str) -> Layer | None:
        """A value that `layers` leaves out."""

    def default_layer(self) -> Layer:
        """The last layer with a spatial extent."""

    def require_gradient(self, wrt: str) -> None:
        """Refuse what has no gradient with respect to a layer or the images."""

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
        return self._analysis.image_shape

    @property
    def has_rectifiers(self) -> bool:
        return any(node.operator in RECTIFIERS for node in self._analysis.nodes)

    def layers(self) -> tuple[Layer, ...]:
        return self._analysis.layers()

    def unlisted(self, name: str) -> Layer | None:
        return self._analysis.unlisted(name)

    def default_layer(self) -> Layer:
        return self._analysis.default_layer()

    def require_gradient(self, wrt: str) -> None:
        start = self._analysis.input.name if wrt == INPUT else wrt
        require_gradient(self._analysis.nodes, start, self._analysis.output)

    def classifier(self, params: Params) -> Classifier:
        head = self._analysis.head()
        if head.weights is None:  # the pooled channels are the classes
            return Classifier(head.layer, jnp.eye(self._analysis.shapes[head.layer][-1]))
        weights = params.get(head.weights, self._graph.constants.get(head.weights))
        if isinstance(weights, Kernel):
            weights = weights.weights
        return Classifier(head.layer, jnp.asarray(head.matrix(weights)))

    def apply(
        self, params: Params, images: Array, keep: Sequence[str], rectifier: RectifierRule | None
    ) -> tuple[Array, dict[str, Array]]:
        def run(images: Array) -> tuple[Array, dict[str, Array]]:
            values = {**params, self._analysis.input.name: self._to_graph(images)}
            known = self._graph.run(values, [self._output, *keep], self._step(rectifier))
            kept = {name: self._layout(name, images).show(known[name]) for name in keep}
            return as_scores(known[self._output]), kept

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

        layout = self._layout(layer, images)

        def rest(activations: Array) -> Array:
            cut = {**before, layer: layout.hide(activations, known[layer])}
            return as_scores(self._graph.run(cut, [self._output], step)[self._output])

        return layout.show(known[layer]), rest

    def _split_each(
        self, params: Params, images: Array, layer: str, step: Step
    ) -> tuple[Array, Rest]:
        """Cut a graph that takes one image at a time; what passes by the layer runs again."""
        layout = self._layout(layer, images)

        def rest(image: Array, activations: Array) -> Array:
            values = {**params, self._analysis.input.name: self._to_graph(image)}
            original = self._graph.run(values, [layer], step)[layer] if layout.has_others else None
            values[layer] = layout.hide(activations, original)
            return as_scores(self._graph.run(values, [self._output], step)[self._output])

        kept = self.apply(params, images, [layer], None)[1]
        return kept[layer], lambda activations: self._per_image(rest)(images, activations)

    def biases(self, params: Params, images: Array) -> tuple[dict[str, Array], Tapped]:
        source, step = self._analysis.input.name, self._step(None)
        data = self._graph.depending_on(source)
        shapes: dict[str, tuple[int, ...]] = {}

        def found(images: Array) -> dict[str, Array]:
            values = {**params, source: self._to_graph(images)}
            known = self._graph.run(values, [self._output], step)
            kept = biases(self._analysis.nodes, known, data, step)
            shapes.update((name, bias.shape) for name, bias in kept.items())
            return {name: self._by_image(name, bias, images) for name, bias in kept.items()}

        def tapped(images: Array, taps: dict[str, Array]) -> Array:
            hidden = {
                name: self._from_images(name, tap, images, shapes[name])
                for name, tap in taps.items()
            }
            values = {**params, source: self._to_graph(images)}
            known = self._graph.run(values, [self._output], tapping(hidden, step))
            return as_scores(known[self._output])

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
        step = bypassing(self._analysis.bypassed)
        return step if rectifier is None else rectifying(rectifier, step)

    def _to_graph(self, images: Array) -> Array:
        return self._analysis.to_graph(images)

    def _layout(self, layer: str, images: Array) -> Layout:
        """How a layer is shown for images of this size."""
        layout = self._analysis.layout(layer, *images.shape[-3:-1])
        assert layout is not None, "find_layer knows no other layers"
        return layout

    def _by_image(self, name: str, value: Array, images: Array) -> Array:
        """A value as it is shown; `(N, values)` if it has no places, or all on one axis."""
        if layout := self._whole(name, images):
            return layout.show(value)
        axis = self._batch_axis(name, images)
        if value.ndim and value.shape[axis] % len(images):
            raise UnsupportedModelError(
                f"it cannot be told which part of the value {name!r} is of which image; explain "
                "one image at a time (`batch_size=1`), or use another method"
            )
        return jnp.moveaxis(value, axis, 0).reshape(len(images), -1) if value.ndim else value

    def _from_images(self, name: str, value: Array, images: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `_by_image`, for a value of that shape."""
        if layout := self._whole(name, images):
            return layout.hide(value)
        if not shape:
            return value
        axis = self._batch_axis(name, images)
        rest = shape[:axis] + shape[axis + 1 :]
        return jnp.moveaxis(value.reshape(shape[axis], *rest), 0, axis)

    def _batch_axis(self, name: str, images: Array) -> int:
        """The axis along which images follow each other, with their places or without."""
        axes = self._analysis.probe(*images.shape[-3:-1]).axes.get(name, ())
        return next((i for i, axis in enumerate(axes) if axis and axis[0].kind == "N"), 0)

    def _whole(self, name: str, images: Array) -> Layout | None:
        """How a value is shown if nothing of it would be left out."""
        layout = self._analysis.layout(name, *images.shape[-3:-1])
        return None if layout is None or layout.has_others else layout
