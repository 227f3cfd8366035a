"""`Network`: what is known of one model at every image size, as users see it."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Mapping, Sequence

from xaimaps.graph._axes import Shape
from xaimaps.graph._description import INPUT, Description, Layer, no_spatial_layer
from xaimaps.graph._graph import UNLISTED, Graph
from xaimaps.graph._head import Head
from xaimaps.graph._layout import Layout

PROBE_BATCH = 2
PROBE_SIZES = (224, 256)
"""Heights and widths at which a model of any size is traced: what differs between them varies."""


class Network(Description):
    """A model as a graph for each image size. An adapter writes `trace` and `input_shape`."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[int, int], Graph] = {}

    @abstractmethod
    def trace(self, height: int, width: int) -> Graph:
        """The graph for images of that size. The values of layers are their names."""

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Other names of values."""
        return {}

    def is_named(self, value: str) -> bool:
        """Whether a value ends something that the model's author has a name for."""
        return bool(self.aliases.get(value))

    def graph(self, height: int, width: int) -> Graph:
        """The graph for images of that size, traced once."""
        if (height, width) not in self._graphs:
            self._graphs[height, width] = self.trace(height, width)
        return self._graphs[height, width]

    @property
    def usual(self) -> Graph:
        """The graph at the model's own size, or at a usual one."""
        return self.graph(*self._size(PROBE_SIZES[0]))

    @property
    def usual_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of an image there."""
        return *self._size(PROBE_SIZES[0]), self.input_shape[2] or 3

    def _size(self, size: int) -> tuple[int, int]:
        height, width, _ = self.input_shape
        return height or size, width or size

    @property
    def has_rectifiers(self) -> bool:
        return self.usual.has_rectifiers

    def head(self) -> Head:
        return self.usual.head()

    def require_gradient(self, wrt: str) -> None:
        self.usual.require_gradient(self.usual.images if wrt == INPUT else wrt)

    def layout(self, layer: str, height: int, width: int) -> Layout:
        """How a layer is shown for images of that size."""
        layout = self.graph(height, width).layouts.get(layer)
        assert layout is not None, "find_layer knows no other layers"
        return layout

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Every value that can be shown, with its shape then; None where a size varies."""
        small, large = (self.graph(*self._size(size)) for size in PROBE_SIZES)
        return {
            value: (None, *_merged(small.shown(value)[1:], large.shown(value)[1:]))
            for value in small.layouts
            if value in large.layouts
        }

    def layers(self) -> tuple[Layer, ...]:
        """The values worth naming to a user, in order: no views, no arithmetic on the way."""
        default = self._default
        shown = (value for value in self.values() if value in self.shapes)
        return tuple(
            self._layer(value) for value in shown if value == default or self.is_listed(value)
        )

    def values(self) -> list[str]:
        """The values that can be kept and cut at, in the order of computation."""
        return [one.makes[0] for one in self.usual.operations]

    def is_listed(self, value: str) -> bool:
        """Whether a value is worth showing to a user."""
        return self.is_new(value) and (self.usual.is_layer(value) or self.is_named(value))

    def is_new(self, value: str) -> bool:
        """Whether a value shows more than the one that it is made of."""
        return self.usual.producers[value].kind not in UNLISTED

    def operator(self, value: str) -> str:
        """The framework's word for what computes a value."""
        return self.usual.producers[value].operator

    def _layer(self, name: str) -> Layer:
        return Layer(name, self.shapes[name], self.operator(name), self.aliases.get(name, ()))

    def unlisted(self, name: str) -> Layer | None:
        """A layer that `layers` leaves out, by the value's own name or an alias."""
        if name in self.shapes:
            return self._layer(name)
        known = [value for value, names in self.aliases.items() if name in names]
        return self._layer(known[0]) if len(known) == 1 else None

    def default_layer(self) -> Layer:
        """The last layer with more than one spatial position that the output depends on.

        Raises:
            LayerError: no layer has.
        """
        if self._default is None:
            raise no_spatial_layer()
        return self._layer(self._default)

    @functools.cached_property
    def _default(self) -> str | None:
        candidates = [
            value
            for value in self.values()
            if value in self.shapes and self.is_new(value) and self._layer(value).is_spatial
        ]
        return self.usual.last_read(candidates) if candidates else None


def _merged(small: Shape, large: Sequence[int]) -> tuple[int | None, ...]:
    """A size that differs between two image sizes is one that varies."""
    return tuple(a if a == b else None for a, b in zip(small, large, strict=True))
