"""A backend in plain numpy with explicit gradients: the reference for all other backends."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from xaimaps.backend import (
    INPUT,
    Array,
    Backend,
    Cut,
    Description,
    Gradients,
    Layer,
    ModelInfo,
    Replica,
)
from xaimaps.graph import Dense as DenseHead
from xaimaps.graph import Graph, Head, Kind, Operation, no_head
from xaimaps.methods import METHODS
from xaimaps.propagation import Change, Local, Rules
from xaimaps.targets import Contrast, Several, Target, one_hot
from xaimaps.testing.networks import (
    Cells,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Network,
    ReLU,
    pooled_network,
)

STEP = 1e-4
"""The step of central differences; a smaller one loses the digits of second derivatives."""

OUTPUT_STEP = 1e-3
"""The step of differences by outputs. A score is smooth in them, so a large step is accurate and
has less rounding."""


class ReferenceBackend(Backend):
    """A `Network` in numpy.

    The gradients of layers and of class scores are explicit. Any other function is differentiated
    by central differences.

    Args:
        network: the layers.
    """

    name = "reference"
    capabilities = frozenset(
        {"forward", "activations", "grad", "classifier", "split", "rules", "biases", "weights"}
    )

    def __init__(self, network: Network) -> None:
        super().__init__(ChainDescription(network), ModelInfo("reference network"))
        self.chain = network

    @classmethod
    def accepts(cls, model: object) -> bool:
        return isinstance(model, Network)

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> ReferenceBackend:
        return cls(model, **options)

    @property
    def xp(self) -> Any:
        return np

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        values = self.values(images)
        return list(values.values())[-1], {name: values[name] for name in layers}

    def values(self, activations: Array, layer: str = INPUT) -> dict[str, Array]:
        """Return every value from a layer on, including that layer's, by name."""
        found = {layer: activations}
        names = [INPUT, *self.chain.layers]
        for name in names[names.index(layer) + 1 :]:
            activations = found[name] = self.chain.layers[name](activations)
        return found

    def cut(self, images: Array, layer: str = INPUT, rules: Rules | None = None) -> ChainCut:
        value = self.values(images)[layer]

        def rest(activations: Array) -> Array:
            before = activations.shape[: activations.ndim - value.ndim]
            flat = activations.reshape(-1, *value.shape[1:])
            result = list(self.values(flat, layer).values())[-1]
            return result.reshape(*before, len(images), *result.shape[1:])

        return ChainCut(self, layer, value, rest, rules)

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        cut = self.cut(images, layer, rules)
        return cut.value, cut.forward

    def differentiate(self, fn: Callable[[Array], tuple[Array, Array]], point: Array) -> Gradients:
        scores, outputs = fn(point)
        found = _differences(lambda point: fn(point)[0], point, STEP)
        return Gradients(outputs, scores, point, found.astype(point.dtype))

    def weight(self, name: str) -> Array:
        dense = self.chain.layers[name]
        assert isinstance(dense, Dense), "the head names no other layers"
        return dense.weights

    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        terms = tuple(
            layer.bias * self.grad(images, target, wrt=name).gradients
            for name, layer in self.chain.layers.items()
            if isinstance(layer, Conv | Dense)
        )
        return self.grad(images, target), terms

    def replica(self) -> Replica:
        copied = copy.copy(self)
        copied.chain = Network({**self.chain.layers}, self.chain.input_shape)
        copied._compiled = {}
        layers = {name: _weights(name, layer) for name, layer in self.chain.layers.items()}

        def assign(weights: Mapping[str, Array]) -> None:
            for name, array in weights.items():
                layer, _, part = name.rpartition(".")
                before: Any = copied.chain.layers[layer]
                copied.chain.layers[layer] = replace(before, **{part: array})

        return Replica(copied, {name: own for name, own in layers.items() if own}, assign)


class ChainDescription(Description):
    """The description of a chain of layers.

    Args:
        chain: the layers.
    """

    def __init__(self, chain: Network) -> None:
        self._chain = chain

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._chain.input_shape

    def layers(self) -> tuple[Layer, ...]:
        values = self._chain.values(np.zeros((1, *self._chain.input_shape)))
        return tuple(
            Layer(name, (None, *value.shape[1:]), type(self._chain.layers[name]).__name__)
            for name, value in values.items()
        )

    @property
    def output_rank(self) -> int:
        return len(self.layers()[-1].shape)

    @property
    def has_rectifiers(self) -> bool:
        return any(isinstance(layer, ReLU) for layer in self._chain.layers.values())

    def head(self) -> Head:
        names, kinds = list(self._chain.layers), list(map(type, self._chain.layers.values()))
        if kinds[-2:] != [GlobalAveragePool, Dense]:
            raise no_head(f"it ends in {' and '.join(kind.__name__ for kind in kinds[-2:])}")
        return Head(names[-3], DenseHead(names[-1]))


@dataclass(frozen=True)
class ChainCut(Cut):
    """A chain cut at a layer.

    Attributes:
        rules: the rules that replace derivatives.
    """

    backend: ReferenceBackend
    rules: Rules | None

    def pull(self, activations: Array, target: Target) -> Gradients:
        values = self.backend.values(activations, self.layer)
        outputs = list(values.values())[-1]
        pulled = self._pull(values, _seeds(target, outputs)).astype(activations.dtype)
        return Gradients(outputs, target.scores(np, outputs), activations, pulled)

    def _pull(self, values: dict[str, Array], g: Array) -> Array:
        """Backpropagate from the outputs to the layer, for one target or for K on a first axis."""
        if g.ndim > list(values.values())[-1].ndim:
            return np.stack([self._pull(values, row) for row in g])
        if self.rules is not None and self.rules.compares:
            half = len(g) // 2
            before = {name: value[half:] for name, value in values.items()}
            values = {name: value[:half] for name, value in values.items()}
            return np.concatenate([self._through(values, g[:half], before), 0 * before[self.layer]])
        return self._through(values, g, values)

    def _through(self, values: dict[str, Array], g: Array, reference: dict[str, Array]) -> Array:
        """Backpropagate through all layers, by the rules for some."""
        layers, changes = self.backend.chain.layers, self._changes
        for before, name in reversed(list(itertools.pairwise(values))):
            if name in changes:
                local = _local(layers[name], changes[name], values, reference)
                (g,) = changes[name].rule.pull(changes[name], local, g)
            else:
                g = layers[name].pull(values[before], g)
        return g

    @property
    def _changes(self) -> dict[str, Change]:
        if self.rules is None:
            return {}
        found = self.rules.changes(chain_graph(self.backend.chain))
        return {change.result: change for change in found}


def _local(
    layer: Any, change: Change, values: dict[str, Array], reference: dict[str, Array]
) -> Local:
    """Return what a rule sees of one layer."""
    parts = {f"{change.result}.{part}": part for part in _parts(layer)}
    used = [layer]

    def value(name: str) -> Array:
        return getattr(layer, parts[name]) if name in parts else values[name]

    def compute(given: Mapping[str, Array], name: str) -> Array:
        weights = {part: given[name] for name, part in parts.items() if name in given}
        used[0] = replace(layer, **weights) if weights else layer
        (data,) = change.data
        return used[0](given.get(data, values[data]))

    def vjp(fn: Callable[[Array], Array], x: Array, c: Array) -> Array:
        fn(x)  # which shows by its call of `compute` which layer it is
        result: Array = used[0].pull(x, c)
        return result

    return Local(np, value, compute, reference.__getitem__, vjp)


def _parts(layer: Any) -> tuple[str, ...]:
    """Return the names of a layer's weights and bias."""
    return tuple(field.name for field in fields(layer)) if is_dataclass(layer) else ()


def _weights(name: str, layer: Any) -> dict[str, Array]:
    """Return the weights and bias of a layer by name."""
    return {f"{name}.{part}": getattr(layer, part) for part in _parts(layer)}


def chain_graph(chain: Network) -> Graph:
    """Return the operations of a chain of layers."""
    images = np.zeros((1, *chain.input_shape))
    values = {INPUT: images, **chain.values(images)}
    names = [INPUT, *chain.layers]
    return Graph(
        operations=tuple(
            _operation(name, before, chain.layers[name])
            for before, name in itertools.pairwise(names)
        ),
        images=INPUT,
        image_axes=(),
        output=names[-1],
        shapes={name: value.shape for name, value in values.items()},
        statics={},
    )


KINDS: dict[type, Kind] = {
    Conv: "conv",
    Dense: "dense",
    ReLU: "relu",
    GlobalAveragePool: "pool",
    Flatten: "view",
    Cells: "view",
}
"""The kinds of the layers of a chain."""


def _operation(name: str, before: str, layer: Any) -> Operation:
    weights = tuple(f"{name}.{part}" for part in _parts(layer))
    return Operation(
        kind=KINDS[type(layer)],
        operator=type(layer).__name__,
        name=name,
        reads=(before, *weights),
        makes=(name,),
        is_linear=bool(weights),
        adds=bool(weights),
    )


def _seeds(target: Target, outputs: Array) -> Array:
    """Return the gradient of the scores by the outputs, `(N, classes)` or `(K, N, classes)`."""
    if isinstance(target, Contrast):
        return _seeds(target.pro, outputs) - _seeds(target.contra, outputs)
    if isinstance(target, Several):
        return np.stack([_seeds(part, outputs) for part in target.parts])
    indices = target.indices_in(np, outputs)
    if indices is not None and outputs.ndim == 2 and not target.is_binary:
        return one_hot(np, indices, outputs).astype(outputs.dtype)
    return _differences(lambda outputs: target.scores(np, outputs), outputs, OUTPUT_STEP)


def _differences(fn: Callable[[Array], Array], point: Array, step: float) -> Array:
    """Return central differences of scores `(N,)` or `(K, N)` by a point `(N, ...)`, in float64."""
    columns = []
    for one in np.eye(math.prod(point.shape[1:])):
        move = step * one.reshape(point.shape[1:])
        columns.append((fn(point + move) - fn(point - move)) / (2 * step))
    found = np.stack(columns, axis=-1)
    return found.reshape(*found.shape[:-1], *point.shape[1:])


REFERENCE_METHODS = tuple(
    name for name, row in METHODS.items() if row.fits(ReferenceBackend(pooled_network()))
)
"""The methods that explain a classifier of convolutions on the reference backend."""
