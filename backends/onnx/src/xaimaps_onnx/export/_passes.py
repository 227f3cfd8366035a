"""Passes through the network of a file: its own, and those with other values at some place."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from xaimaps._registry import import_extra
from xaimaps.backend import INPUT
from xaimaps.errors import UnsupportedModelError
from xaimaps.graph import as_scores
from xaimaps_onnx.analysis import OnnxNetwork
from xaimaps_onnx.export._copies import copied
from xaimaps_onnx.export._namespace import Namespace
from xaimaps_onnx.export._sizes import shapes_of
from xaimaps_onnx.export._traced import Recorder, Traced
from xaimaps_onnx.export._types import types_of


class FileNetwork:
    """The values of a file's main graph.

    Args:
        network: the analysis of the file.
        file: the file.
        recorder: where nodes are added.
    """

    def __init__(self, network: OnnxNetwork, file: onnx.ModelProto, recorder: Recorder) -> None:
        self.network, self.recorder, self.nodes = network, recorder, file.graph.node
        self.xp = Namespace(recorder)
        self._shapes, self._types = shapes_of(network, recorder.batch), types_of(file)

    @property
    def logits(self) -> str:
        """The name of the value with the scores."""
        ending = self.network.usual.ending
        return ending.logits if ending else self.network.output

    def value(self, name: str) -> Traced:
        """Return a value.

        Raises:
            UnsupportedModelError: it is not in the main graph.
        """
        if name not in self._types:
            raise UnsupportedModelError(
                f"the value {name!r} must be in the main graph of the file to be exported, but it "
                "is inside a function or a branch; simplify the file with onnx.inliner first"
            )
        return Traced(self.recorder, name, self._shapes.get(name, ()), self._types[name])

    @functools.cached_property
    def backward(self) -> Any:
        """The backward pass, which needs JAX."""
        module = import_extra("xaimaps_onnx.export._backward", "jax", "a gradient in an ONNX file")
        model, images = self.network.model, self.network.input
        shape = self.value(images.name).shape
        given = np.broadcast_to(np.zeros((), images.dtype), shape)
        return module.Backward(model.graph, {**model.params, images.name: given}, self.logits)


@dataclass(frozen=True)
class Pass:
    """One pass through the network.

    Attributes:
        file: the network.
        changed: the values that differ from those of the file itself, by their names there.
    """

    file: FileNetwork
    changed: Mapping[str, Traced]

    def after(self, name: str, value: Traced) -> Pass:
        """Return the pass with another value of a name, and all that depends on it."""
        given = {name: self.file.xp.astype(value, self.value(name).dtype)}
        file = self.file
        return Pass(file, copied(file.nodes, given, self.changed, file.logits, file.value))

    def value(self, name: str) -> Traced:
        """Return a value by its name in the file."""
        return self.changed[name] if name in self.changed else self.file.value(name)

    def scores(self) -> Traced:
        """Return the scores, `(N, ...)`."""
        axis = self.file.network.usual.batch_axis
        return as_scores(self.file.xp, self._floats(self.file.logits), axis)  # type: ignore[no-any-return]

    def shown(self, place: str) -> Traced:
        """Return the images or a layer, `(N, *spatial, C)`."""
        return self._as_shown(place, self._floats(self._name(place)))

    def with_shown(self, place: str, value: Traced) -> Pass:
        """Return the pass with another value of the images or of a layer, `(N, *spatial, C)`."""
        xp, name = self.file.xp, self._name(place)
        if place == INPUT:
            return self.after(name, xp.permute_dims(value, self.file.network.to_graph_order))
        return self.after(name, self._layout(place).hide(xp, value, self._floats(name)))

    def gradient(self, place: str, seed: Traced) -> Traced:
        """Return the gradient at the images or at a layer, `(N, *spatial, C)`.

        Args:
            place: a layer's name, or `INPUT`.
            seed: the gradient by the scores, `(N, classes)`.
        """
        xp, logits = self.file.xp, self.file.value(self.file.logits).shape
        axis = self.file.network.usual.batch_axis or 0
        first = (logits[axis], *logits[:axis], *logits[axis + 1 :])
        seed = xp.moveaxis(xp.reshape(seed, first), 0, axis)
        found = self.file.backward.pull(seed, self._name(place), self.value)
        return self._as_shown(place, xp.astype(found, np.float32))

    def _as_shown(self, place: str, value: Traced) -> Traced:
        if place == INPUT:
            order = np.argsort(self.file.network.to_graph_order).tolist()
            return self.file.xp.permute_dims(value, order)  # type: ignore[no-any-return]
        return self._layout(place).show(self.file.xp, value)  # type: ignore[no-any-return]

    def _layout(self, layer: str) -> Any:
        return self.file.network.layout(layer, *self.file.network.usual_shape[:-1])

    def _name(self, place: str) -> str:
        return self.file.network.input.name if place == INPUT else place

    def _floats(self, name: str) -> Traced:
        return self.file.xp.astype(self.value(name), np.float32)  # type: ignore[no-any-return]
