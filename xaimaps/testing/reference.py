"""A backend in plain numpy, whose gradients are written out: the oracle for all others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps.backend import (
    INPUT,
    Array,
    Backend,
    Classifier,
    Gradients,
    Layer,
    ModelInfo,
    RectifierRule,
)
from xaimaps.errors import LayerError, TargetError
from xaimaps.targets import Contrast, Several, Target, one_hot
from xaimaps.testing.networks import Conv, Dense, GlobalAveragePool, Network, ReLU


class ReferenceBackend(Backend):
    """A `Network` in numpy; it explains classes and contrasts, not functions of the outputs.

    Args:
        network: the layers.
    """

    name = "reference"
    capabilities = frozenset(
        {"forward", "activations", "grad", "classifier", "split", "rectifier_rules", "biases"}
    )

    def __init__(self, network: Network) -> None:
        super().__init__(ModelInfo("reference network"))
        self._network = network

    @classmethod
    def accepts(cls, model: object) -> bool:
        return isinstance(model, Network)

    @classmethod
    def load(cls, model: Any, **options: Any) -> ReferenceBackend:
        return cls(model, **options)

    @property
    def xp(self) -> Any:
        return np

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._network.input_shape

    def layers(self) -> tuple[Layer, ...]:
        values = self._network.values(np.zeros((1, *self._network.input_shape)))
        return tuple(
            Layer(name, (None, *value.shape[1:]), type(self._network.layers[name]).__name__)
            for name, value in values.items()
        )

    def default_layer(self) -> Layer:
        return [layer for layer in self.layers() if layer.is_spatial][-1]

    @property
    def has_rectifiers(self) -> bool:
        return any(isinstance(layer, ReLU) for layer in self._network.layers.values())

    def forward(self, images: Array) -> Array:
        return list(self._network.values(images).values())[-1]

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...]
    ) -> tuple[Array, dict[str, Array]]:
        values = self._network.values(images)
        return list(values.values())[-1], {name: values[name] for name in layers}

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rectifier: RectifierRule | None = None,
    ) -> Gradients:
        values = {INPUT: images, **self._network.values(images)}
        outputs = list(values.values())[-1]
        pulled = self._pull(values, _seeds(target, outputs), wrt, rectifier)
        return Gradients(outputs, target.scores(np, outputs), values[wrt], pulled)

    def _pull(
        self, values: dict[str, Array], g: Array, wrt: str, rectifier: RectifierRule | None = None
    ) -> Array:
        """Go back from the outputs to the value `wrt`, with an axis of K targets or without."""
        if g.ndim > 2:
            return np.stack([self._pull(values, row, wrt, rectifier) for row in g])
        for before, name in reversed(list(itertools.pairwise(values))):
            if name == wrt:
                break
            layer = self._network.layers[name]
            if rectifier is not None and isinstance(layer, ReLU):
                g = np.maximum(g, 0)
            if not (rectifier == "deconvnet" and isinstance(layer, ReLU)):
                g = layer.pull(values[before], g)
        return g

    def split(self, images: Array, layer: str) -> tuple[Array, Callable[[Array], Array]]:
        names = list(self._network.layers)
        behind = names[names.index(layer) + 1 :]

        value = self._network.values(images)[layer]

        def rest(activations: Array) -> Array:
            before = activations.shape[: activations.ndim - value.ndim]
            result = activations.reshape(-1, *value.shape[1:])
            for name in behind:
                result = self._network.layers[name](result)
            return result.reshape(*before, len(images), *result.shape[1:])

        return value, rest

    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        values = {INPUT: images, **self._network.values(images)}
        outputs = list(values.values())[-1]
        seeds = _seeds(target, outputs)
        terms = tuple(
            layer.bias * self._pull(values, seeds, name)
            for name, layer in self._network.layers.items()
            if isinstance(layer, Conv | Dense)
        )
        return self.grad(images, target), terms

    def classifier(self) -> Classifier:
        names = list(self._network.layers)
        kinds = [type(layer) for layer in self._network.layers.values()]
        if kinds[-2:] != [GlobalAveragePool, Dense]:
            raise LayerError("CAM needs a network that ends in global average pooling and Dense")
        dense = self._network.layers[names[-1]]
        assert isinstance(dense, Dense)
        return Classifier(names[-3], dense.weights)


def _seeds(target: Target, outputs: Array) -> Array:
    """The gradient of the target's scores by the outputs: `(N, classes)`, or `(K, N, classes)`."""
    if isinstance(target, Contrast):
        return _seeds(target.pro, outputs) - _seeds(target.contra, outputs)
    if isinstance(target, Several):
        return np.stack([_seeds(part, outputs) for part in target.parts])
    indices = target.indices_in(np, outputs)
    if indices is None:
        raise TargetError("the reference backend explains classes only, got a function")
    return one_hot(np, indices, outputs).astype(outputs.dtype)
