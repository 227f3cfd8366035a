"""A Keras model as a function in a graph, whose layers can be kept, cut at and replaced."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from xaimaps.backend import INPUT, Classifier, Gradients, RectifierRule
from xaimaps.errors import LayerError
from xaimaps.targets import Target
from xaimaps_tensorflow import _namespace as namespace
from xaimaps_tensorflow._biases import bias, with_bias
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
from xaimaps_tensorflow._inspection import Reading, Trace, read
from xaimaps_tensorflow._layer_groups import smooth
from xaimaps_tensorflow._outputs import chosen_output, named_outputs
from xaimaps_tensorflow._partial import Cut, tiled
from xaimaps_tensorflow._rectifiers import rectifying
from xaimaps_tensorflow._trace import Call, Tracer, operations_in

PROBE_BATCH = 2


class KerasProgram:
    """A model over batches of images with channels last.

    Args:
        model: the model, which is never changed.
        images: its input.
        output: which of its outputs is explained; None for the first.
    """

    def __init__(self, model: Any, images: ImageInput, output: str | int | None) -> None:
        self.input = images
        self.model = model
        self._output = output
        self._operations = operations_in(model)

    @functools.cached_property
    def reading(self) -> Reading:
        """What the model says of itself, from a trace that computes nothing."""
        found: list[Reading] = []

        def probe(images: Tensor) -> None:
            found.append(read(self._run(images)))

        shape = (PROBE_BATCH, *self.input.shape)
        spec = tf.TensorSpec(shape, tf.float32)
        tf.function(probe, autograph=False).get_concrete_function(spec)
        return found[0]

    def forward(self, images: Tensor) -> Tensor:
        """The outputs: logits, where the model ends in a softmax."""
        return self._scores(self._traced(images))

    def activations(
        self, images: Tensor, layers: tuple[str, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs and the values of layers."""
        trace = self._traced(images)
        kept = {name: self._value(trace, name) for name in layers}
        return self._scores(trace), kept

    def _value(self, trace: Trace, layer: str) -> Tensor:
        """The value of a layer: the logits, if it ends the model with a softmax."""
        value = tensors_in(trace.calls[self.reading.layers.number(layer)].value)[0]
        if source(value, VIEWS) is source(trace.output, VIEWS):
            value = without_ending(value)
        grid = self.reading.layers.grid(layer)
        return tf.cast(value if grid is None else grid.show(value), trace.images.dtype)

    def grad(
        self, images: Tensor, target: Target, wrt: str, rectifier: RectifierRule | None
    ) -> Gradients:
        """The gradients of the target's scores by the images or by a layer."""
        if wrt == INPUT:
            trace = self._traced(images, rectifier)
            point, outputs = trace.images, self._scores(trace)
        else:
            value, rest = self.split(images, wrt, rectifier)
            point = tf.identity(value)
            outputs = rest(point)
        scores = target.scores(namespace, outputs)
        return Gradients(outputs, scores, point, gradients_at(scores, [point])[0])

    def split(
        self, images: Tensor, layer: str, rectifier: RectifierRule | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The value of a layer, and the outputs as a function of it."""
        trace = self._traced(images)
        value = self._value(trace, layer)
        layers = self.reading.layers
        cut, grid = Cut(trace.images, trace.calls, layers.number(layer)), layers.grid(layer)

        def rest(point: Tensor) -> Tensor:
            before = tuple(point.shape[: point.shape.rank - value.shape.rank])
            variants = math.prod(before)
            flat = tf.reshape(point, (variants * value.shape[0], *value.shape[1:]))
            flat = tf.cast(flat, cut.value.dtype)
            if grid is not None:
                flat = grid.hide(flat, tiled(cut.value, variants))
            known = cut.known(flat, variants)
            again = self._run(tiled(trace.images, variants), rectifier, known, trace.calls)
            outputs = self._scores(again, stop=known[cut.number])
            return tf.reshape(outputs, (*before, trace.images.shape[0], *outputs.shape[1:]))

        return value, rest

    def biases(self, images: Tensor, target: Target) -> tuple[Gradients, tuple[Tensor, ...]]:
        """The gradients by the images, and bias x gradient of each layer with a bias."""
        trace = self._traced(images)
        outputs = self._scores(trace)
        scores = target.scores(namespace, outputs)
        data = smooth(trace.images)
        biased = with_bias(needed_for([outputs]), data)
        points = [trace.images, *(layer[-1].outputs[0] for layer in biased)]
        by_images, *by_values = gradients_at(scores, points)
        terms = (
            bias(layer, data) * gradient
            for layer, gradient in zip(biased, by_values, strict=True)
            if gradient is not None
        )
        per_image = (self._per_image(term, scores, trace.images.dtype) for term in terms)
        return Gradients(outputs, scores, trace.images, by_images), tuple(per_image)

    @staticmethod
    def _per_image(term: Tensor, scores: Tensor, dtype: Any) -> Tensor:
        """A term `(..., N, ...)`; one of windows or patches of each image as vectors."""
        axis, term = len(scores.shape) - 1, tf.cast(term, dtype)
        if term.shape[axis] == scores.shape[-1]:
            return term
        return tf.reshape(term, (*scores.shape, -1))

    def classifier(self) -> Classifier:
        """The pooled layer and the dense weights.

        Raises:
            LayerError: the model does not end so.
        """
        if isinstance(self.reading.head, str):
            raise LayerError(self.reading.head)
        layer, head = self.reading.head
        if head.weights is None:
            found = self.reading.layers.unlisted(layer)
            assert found is not None, "the head has named it"
            return Classifier(layer, tf.eye(found.shape[-1]))
        weights = tf.cast(head.weights.read(), tf.float32)
        weights = tf.reshape(weights, weights.shape[-2:])  # of a convolution
        return Classifier(layer, tf.transpose(weights) if head.is_transposed else weights)

    def _scores(self, trace: Trace, stop: Tensor | None = None) -> Tensor:
        """The logits; those of a fully convolutional network as one vector for each image."""
        value = tf.cast(without_ending(trace.output, stop), trace.images.dtype)
        places = tuple(value.shape[1:])
        is_vector = len(places) > 1 and None not in places and max(places) == math.prod(places)
        return tf.reshape(value, (value.shape[0], -1)) if is_vector else value

    def _traced(self, images: Tensor, rectifier: RectifierRule | None = None) -> Trace:
        """The run of the model on these images in the current graph, made once."""
        # The graph keeps it, so that it lives as long as its tensors are of use.
        graph = tf.compat.v1.get_default_graph()
        runs = graph._xaimaps_runs = getattr(graph, "_xaimaps_runs", {})
        key = (id(self), images.ref(), rectifier)
        if key not in runs:
            runs[key] = self._run(_local(images), rectifier)
        found: Trace = runs[key]
        return found

    def _run(
        self,
        images: Tensor,
        rectifier: RectifierRule | None = None,
        known: Mapping[int, Any] | None = None,
        earlier: Mapping[int, Call] | None = None,
    ) -> Trace:
        tracer = Tracer(self._operations, known or {}, earlier or {})
        with tracer.watching() as calls, rectifying(rectifier), self.input.in_floats():
            value = call(self.model, self.input.packed(images), tuple(images.shape[1:]))
        outputs = named_outputs(self.model, value)
        return Trace(images, chosen_output(outputs, self._output)[1], calls)


def _local(images: Tensor) -> Tensor:
    """The same images as a value of the current graph, which alone it can be differentiated in."""
    graph = tf.compat.v1.get_default_graph()
    is_elsewhere = not tf.is_symbolic_tensor(images) or images.graph is not graph
    return tf.identity(images) if is_elsewhere else images
