"""`Network`: a model at every image size, with the layers that users see."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from xaimaps.graph._attention import Attention
from xaimaps.graph._axes import Shape
from xaimaps.graph._description import INPUT, Description, Layer, no_default_layer, no_spatial_layer
from xaimaps.graph._graph import UNLISTED, Graph
from xaimaps.graph._head import Head
from xaimaps.graph._layout import Layout
from xaimaps.graph._operation import Operation
from xaimaps.graph._sizes import Size, other_size, usual_size


class Network(Description):
    """A model as one graph for each image size; an adapter defines `trace` and `input_shape`."""

    def __init__(self) -> None:
        self._graphs: dict[Size, Graph] = {}

    @abstractmethod
    def trace(self, *size: int) -> Graph:
        """Return the graph for images of this size, in which layers have their own names."""

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Other names of values."""
        return {}

    def is_named(self, value: str) -> bool:
        """Return whether a value is the result of a layer that the model's author named."""
        return bool(self.aliases.get(value))

    def graph(self, *size: int) -> Graph:
        """Return the graph for images of this size, traced once."""
        if size not in self._graphs:
            self._graphs[size] = self.trace(*size)
        return self._graphs[size]

    @property
    def usual(self) -> Graph:
        """The graph at the model's own size, or at the first usual size at which it runs."""
        return self.graph(*self._usual_size)

    @property
    def usual_shape(self) -> Shape:
        """`(*spatial, channels)` of an image for `usual`."""
        return *self._usual_size, self.input_shape[-1] or 3

    @functools.cached_property
    def _usual_size(self) -> Size:
        return usual_size(self.input_shape, self.graph)

    @property
    def output_name(self) -> str:
        return self.usual.output

    @property
    def output_rank(self) -> int | None:
        shape = self.usual.shapes.get(self.usual.output)
        return None if shape is None else len(shape)

    @property
    def has_rectifiers(self) -> bool:
        return self.usual.has_rectifiers

    @property
    def is_quantised(self) -> bool:
        """Whether values are converted to integers of a few bits, or from them."""
        kinds = {operation.kind for operation in self.usual.operations}
        return not kinds.isdisjoint(("quantize", "dequantize"))

    @property
    def rescaling(self) -> Operation | None:
        return self.usual.rescaling

    def head(self) -> Head:
        return self.usual.head()

    @property
    def attention(self) -> Attention:
        return self.usual.attention

    def require_gradient(self, wrt: str) -> None:
        self.usual.require_gradient(self.usual.images if wrt == INPUT else wrt)

    def layout(self, layer: str, *size: int) -> Layout:
        """Return the layout of a layer for images of this size."""
        layout = self.graph(*size).layouts.get(layer)
        assert layout is not None, "find_layer knows no other layers"
        return layout

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """The shape, as shown, of every value that has a layout; None for a size that varies."""
        other = other_size(self.input_shape, self.graph, self._usual_size)
        small, large = self.usual, self.graph(*other)
        return {
            value: (None, *_merged(small.shown(value)[1:], large.shown(value)[1:]))
            for value in small.layouts
            if value in large.layouts
        }

    def layers(self) -> tuple[Layer, ...]:
        """Return the values that a user can name, in order, without views and arithmetic."""
        return self._listed

    def all_layers(self) -> tuple[Layer, ...]:
        """Return every value that has a layout, in order, with views and arithmetic."""
        return self._all

    @functools.cached_property
    def _listed(self) -> tuple[Layer, ...]:
        default = self._default
        return tuple(one for one in self._all if one.name == default or self.is_listed(one.name))

    @functools.cached_property
    def _all(self) -> tuple[Layer, ...]:
        return tuple(self._layer(value) for value in self.values() if value in self.shapes)

    def values(self) -> list[str]:
        """Return the values at which the network can be cut, in the order of computation."""
        return [one.makes[0] for one in self.usual.operations]

    def is_listed(self, value: str) -> bool:
        """Return whether a value is listed for users."""
        return self.is_new(value) and (self.usual.is_layer(value) or self.is_named(value))

    def is_new(self, value: str) -> bool:
        """Return whether a value differs from its input in more than its layout."""
        return self.usual.producers[value].kind not in UNLISTED

    def operator(self, value: str) -> str:
        """Return the framework's name of the operator that computes a value."""
        return self.usual.producers[value].operator

    def _layer(self, name: str) -> Layer:
        return Layer(name, self.shapes[name], self.operator(name), self.aliases.get(name, ()))

    def unlisted(self, name: str) -> Layer | None:
        """Return a layer that `layers` omits, by the value's own name or an alias."""
        if name in self.shapes:
            return self._layer(name)
        known = [value for value, names in self.aliases.items() if name in names]
        return self._layer(known[0]) if len(known) == 1 else None

    def default_layer(self) -> Layer:
        """Return the last layer with several spatial positions on which all scores depend.

        Raises:
            LayerError: no layer has more than one spatial position, or none is known to be read.
        """
        if not self._spatial:
            raise no_spatial_layer()
        if self._default is None:
            raise no_default_layer()
        return self._layer(self._default)

    @functools.cached_property
    def _spatial(self) -> list[str]:
        """The layers with several positions on as many axes as the images have."""
        return [
            value
            for value in self.values()
            if value in self.shapes and self.is_new(value) and self._is_map(self._layer(value))
        ]

    def _is_map(self, layer: Layer) -> bool:
        return layer.is_spatial and len(layer.shape) == len(self.input_shape) + 1

    @functools.cached_property
    def _default(self) -> str | None:
        return self.usual.best_layer(self._spatial)


def _merged(small: Shape, large: Sequence[int]) -> tuple[int | None, ...]:
    """Return a shape, with None for a size that differs between two image sizes."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))
