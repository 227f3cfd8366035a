"""A Keras model as a function in a graph, whose layers can be kept, cut and replaced."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xaimaps.backend import Blocks, Gradients
from xaimaps.graph import PROBE_BATCH, Attention, Layout, Shape, as_scores, other_size, usual_size
from xaimaps.propagation import Rules
from xaimaps.targets import Target
from xaimaps_tensorflow import _namespace as namespace
from xaimaps_tensorflow._biases import bias, with_bias
from xaimaps_tensorflow._blocks import blocks
from xaimaps_tensorflow._gradients import gradients_at
from xaimaps_tensorflow._graph import (
    VIEWS,
    Tensor,
    needed_for,
    source,
    tensors_in,
    without_ending,
)
from xaimaps_tensorflow._inference import call
from xaimaps_tensorflow._inputs import ImageInput
from xaimaps_tensorflow._inspection import Reading, Trace, read, variable
from xaimaps_tensorflow._network import KerasNetwork
from xaimaps_tensorflow._outputs import chosen_output, named_outputs
from xaimaps_tensorflow._partial import Cut, tiled
from xaimaps_tensorflow._rules import obey
from xaimaps_tensorflow._shadows import shadowing
from xaimaps_tensorflow._trace import Call, Tracer, operations_in


class KerasProgram:
    """A model over batches of images with channels last.

    Args:
        model: the model, which is not changed.
        images: its image input.
        output: the name or index of the output to explain; None for the first.
        shadows: variables that take the place of the model's own, pair by pair.
    """

    def __init__(
        self,
        model: Any,
        images: ImageInput,
        output: str | int | None,
        shadows: Sequence[tuple[Any, Any]] = (),
    ) -> None:
        self.input = images
        self.model = model
        self.shadows = shadows
        self._output = output
        self._operations = operations_in(model)
        self._readings: dict[Shape, Reading] = {}

    def with_shadows(self, shadows: Sequence[tuple[Any, Any]]) -> KerasProgram:
        """Return the same model with other variables in the place of its own."""
        return KerasProgram(self.model, self.input, self._output, shadows)

    def reading(self, *size: int) -> Reading:
        """Return the analysis of the model at an image size, from a trace that computes nothing."""
        if size not in self._readings:
            found: list[Reading] = []

            def probe(images: Tensor) -> None:
                found.append(read(self._run(images)))

            spec = tf.TensorSpec((PROBE_BATCH, *size, self.input.shape[-1]), tf.float32)
            tf.function(probe, autograph=False).get_concrete_function(spec)
            self._readings[size] = found[0]
        return self._readings[size]

    @functools.cached_property
    def _usual_size(self) -> Shape:
        return usual_size(self.input.shape, self.reading)

    @property
    def usual(self) -> Reading:
        """The analysis at the model's own size, or at the first usual size at which it runs."""
        return self.reading(*self._usual_size)

    @functools.cached_property
    def network(self) -> KerasNetwork:
        """The description of the model."""
        other = self.reading(*other_size(self.input.shape, self.reading, self._usual_size))
        others = {} if other is self.usual else other.trace.calls
        return KerasNetwork(self.input.shape, self.usual, others)

    def activations(
        self, images: Tensor, layers: tuple[str, ...], rules: Rules | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs, as logits, and the values of layers."""
        if rules is not None and rules.compares:
            return self._compared(images, rules), {}
        trace = self._traced(images, rules)
        kept = {name: self._value(trace, name) for name in layers}
        return self._scores(trace), kept

    def _compared(self, images: Tensor, rules: Rules) -> Tensor:
        """Return the outputs of images and of the references behind them, compared by rules."""
        images, references = map(tf.identity, tf.split(images, 2))
        before, after = self._run(references), self._run(images)
        obey(rules, images, after.output, (references, before.output))
        return tf.concat([self._scores(after), self._scores(before)], axis=0)

    def _value(self, trace: Trace, layer: str) -> Tensor:
        """Return the value of a layer, or the logits if it is the softmax that ends the model."""
        value = tensors_in(trace.calls[self.network.number(layer)].value)[0]
        if source(value, VIEWS) is source(trace.output, VIEWS):
            value = without_ending(value)
        layout = self._layout(layer, trace.images)
        shown = value if layout is None else layout.show(namespace, value)
        return tf.cast(shown, trace.images.dtype)

    def _layout(self, layer: str, images: Tensor) -> Layout | None:
        """Return the layout of a layer for images of this size."""
        return self.reading(*images.shape[1:-1]).layout(self.network.number(layer))

    def split(
        self, images: Tensor, layer: str, rules: Rules | None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the value of a layer, and the outputs as a function of it."""
        trace = self._traced(images)
        value = self._value(trace, layer)
        cut = Cut(trace.images, trace.calls, self.network.number(layer))
        layout = self._layout(layer, trace.images)

        def rest(point: Tensor) -> Tensor:
            before = tuple(point.shape[: point.shape.rank - value.shape.rank])
            variants = math.prod(before)
            flat = tf.reshape(point, (variants * value.shape[0], *value.shape[1:]))
            flat = tf.cast(flat, cut.value.dtype)
            if layout is not None:
                flat = layout.hide(namespace, flat, tiled(cut.value, variants))
            known = cut.known(flat, variants)
            again = self._run(tiled(trace.images, variants), rules, known, trace.calls, flat)
            outputs = self._scores(again, stop=known[cut.number])
            return tf.reshape(outputs, (*before, trace.images.shape[0], *outputs.shape[1:]))

        return value, rest

    def blocks(self, images: Tensor) -> Blocks:
        """Return the blocks of a transformer, in the current graph."""
        trace = self._traced(images)
        return blocks(trace.images, trace.output, self._scores(trace))

    def attention(self, size: Shape) -> Attention:
        """Return the description of the attention for images of a size."""
        return self.reading(*size).graph.attention

    def biases(self, images: Tensor, target: Target) -> tuple[Gradients, tuple[Tensor, ...]]:
        """Return the gradients by the images, and bias x gradient for each layer with a bias."""
        trace = self._traced(images)
        outputs = self._scores(trace)
        scores = target.scores(namespace, outputs)
        biased = with_bias(needed_for([outputs]), trace.images)
        points = [trace.images, *(one.layer[-1].outputs[0] for one in biased)]
        by_images, *by_values = gradients_at(scores, points)
        terms = (
            bias(one) * gradient
            for one, gradient in zip(biased, by_values, strict=True)
            if gradient is not None
        )
        per_image = (self._per_image(term, scores, trace.images.dtype) for term in terms)
        return Gradients(outputs, scores, trace.images, by_images), tuple(per_image)

    @staticmethod
    def _per_image(term: Tensor, scores: Tensor, dtype: Any) -> Tensor:
        """Return a term as `(..., N, ...)`, with an image's windows or patches as one vector."""
        axis, term = len(scores.shape) - 1, tf.cast(term, dtype)
        if term.shape[axis] == scores.shape[-1]:
            return term
        return tf.reshape(term, (*scores.shape, -1))

    def weight(self, name: str) -> Tensor:
        """Return the variable of a dense layer as a matrix."""
        weights = tf.cast(variable(self.usual.trace.output.graph, name).read(), tf.float32)
        return tf.reshape(weights, weights.shape[-2:])  # a 1x1 convolution's have two more axes

    def _scores(self, trace: Trace, stop: Tensor | None = None) -> Tensor:
        """Return the logits, those of a fully convolutional network as vectors."""
        value = tf.cast(without_ending(trace.output, stop), trace.images.dtype)
        return as_scores(namespace, value)

    def _traced(self, images: Tensor, rules: Rules | None = None) -> Trace:
        """Return the run of the model on these images in the current graph, traced once."""
        # The graph holds the run, so that it lives as long as its tensors.
        graph = tf.compat.v1.get_default_graph()
        runs = graph._xaimaps_runs = getattr(graph, "_xaimaps_runs", {})
        key = (id(self), images.ref(), rules)
        if key not in runs:
            runs[key] = self._run(_local(images), rules)
        found: Trace = runs[key]
        return found

    def _run(
        self,
        images: Tensor,
        rules: Rules | None = None,
        known: Mapping[int, Any] | None = None,
        earlier: Mapping[int, Call] | None = None,
        start: Tensor | None = None,
    ) -> Trace:
        tracer = Tracer(self._operations, known or {}, earlier or {})
        with tracer.watching() as calls:
            value = self._called(images)
        outputs = named_outputs(self.model, value)
        name, output = chosen_output(outputs, self._output)
        if rules is not None:
            obey(rules, images if start is None else start, output)
        return Trace(images, output, name, tuple(outputs), calls)

    def named_outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return all outputs by name, as the model returns them."""
        return named_outputs(self.model, self._called(images))

    def _called(self, images: Tensor) -> Any:
        """Return what the model returns for the images."""
        with self.input.in_floats(), shadowing(self.shadows):
            return call(self.model, self.input.packed(images), tuple(images.shape[1:]))


def _local(images: Tensor) -> Tensor:
    """Return the images as a tensor of the current graph, in which alone they have gradients."""
    graph = tf.compat.v1.get_default_graph()
    is_elsewhere = not tf.is_symbolic_tensor(images) or images.graph is not graph
    return tf.identity(images) if is_elsewhere else images
