"""A backend in plain numpy, whose gradients are written out: the oracle for all others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps.backend import INPUT, Array, Backend, Classifier, Gradients, Layer, ModelInfo
from xaimaps.errors import LayerError, TargetError
from xaimaps.targets import Target, one_hot
from xaimaps.testing.networks import Dense, GlobalAveragePool, Network


class ReferenceBackend(Backend):
    """A `Network` in numpy; it explains classes, not functions of the outputs.

    Args:
        network: the layers.
    """

    name = "reference"
    capabilities = frozenset({"forward", "activations", "grad", "classifier"})

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

    def forward(self, images: Array) -> Array:
        return list(self._network.values(images).values())[-1]

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...]
    ) -> tuple[Array, dict[str, Array]]:
        values = self._network.values(images)
        return list(values.values())[-1], {name: values[name] for name in layers}

    def grad(self, images: Array, target: Target, *, wrt: str = INPUT) -> Gradients:
        values = {INPUT: images, **self._network.values(images)}
        outputs = list(values.values())[-1]
        indices = target.indices_in(np, outputs)
        if indices is None:
            raise TargetError("the reference backend explains classes only, got a function")
        seeds = one_hot(np, indices, outputs).astype(outputs.dtype)
        rows = seeds if target.is_several else seeds[None]
        pulled = np.stack([self._pull(values, row, wrt) for row in rows])
        gradients = pulled if target.is_several else pulled[0]
        return Gradients(outputs, target.scores(np, outputs), values[wrt], gradients)

    def _pull(self, values: dict[str, Array], g: Array, wrt: str) -> Array:
        """Go back from the outputs to the value `wrt`."""
        names = list(values)
        for before, name in reversed(list(itertools.pairwise(names))):
            if name == wrt:
                break
            g = self._network.layers[name].pull(values[before], g)
        return g

    def classifier(self) -> Classifier:
        names = list(self._network.layers)
        kinds = [type(layer) for layer in self._network.layers.values()]
        if kinds[-2:] != [GlobalAveragePool, Dense]:
            raise LayerError("CAM needs a network that ends in global average pooling and Dense")
        dense = self._network.layers[names[-1]]
        assert isinstance(dense, Dense)
        return Classifier(names[-3], dense.weights)

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        return lambda *arrays: fn(self, *arrays)

    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        return array

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)
