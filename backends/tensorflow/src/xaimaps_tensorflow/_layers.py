"""The layers of a traced model: their names, the listed layers, and the default layer."""

from __future__ import annotations

from typing import Any

from xaimaps.graph import UNLISTED, Graph, Layer, no_spatial_layer
from xaimaps_tensorflow._graph import source, tensors_in
from xaimaps_tensorflow._trace import Call, Calls, named


class Layers:
    """The layers of a model by name, from one trace.

    Args:
        calls: the calls of the trace.
        graph: its operations.
        batch: the number of images.
        others: the calls of a trace at another image size, if sizes vary.
    """

    def __init__(self, calls: Calls, graph: Graph, batch: int, others: Calls) -> None:
        self._graph = graph
        self._others = others
        self._calls = {name: call for name, call in named(calls) if self._is_layer(call, batch)}
        self._group()

    def _is_layer(self, call: Call, batch: int) -> bool:
        """Return whether a call's value is a batch of vectors, tokens or maps of the images."""
        tensors = tensors_in(call.value)
        return (
            len(tensors) == 1
            and tensors[0].name in self._graph.axes
            and tensors[0].shape.rank >= 2
            and tensors[0].shape[0] == batch
        )

    def _group(self) -> None:
        """Group the names of equal values, such as a block and its last layer.

        The name is that of the innermost layer, whose call ends first; the others are aliases.
        """
        firsts: dict[Any, str] = {}
        self._names: dict[str, list[str]] = {}
        for name, call in sorted(self._calls.items(), key=lambda item: item[1].order):
            first = firsts.setdefault(source(tensors_in(call.value)[0]).ref(), name)
            self._names.setdefault(first, []).append(name)

    def listed(self) -> tuple[Layer, ...]:
        """Return the layers that a user can name, in the order of computation."""
        return tuple(self._layer(name) for name in self._names if self._says_something(name))

    def unlisted(self, name: str) -> Layer | None:
        """Return a layer that `listed` omits, by its path."""
        return self._layer(name) if name in self._calls else None

    def number(self, name: str) -> int:
        """Return the number of the call that makes the value."""
        return self._calls[name].number

    def name_of(self, tensor: Any) -> str | None:
        """Return the layer whose value is this tensor, or None."""
        for name in self._names:
            if source(tensors_in(self._calls[name].value)[0]) is source(tensor):
                return name
        return None

    def default(self) -> Layer:
        """Return the last layer with several spatial positions that contribute to the output.

        Raises:
            LayerError: no layer has more than one spatial position.
        """
        spatial = [
            layer
            for layer in self.listed()
            if layer.is_spatial and self._value(layer.name) in self._graph.producers
        ]
        if not spatial:
            raise no_spatial_layer()
        maps = [layer for layer in spatial if len(layer.shape) > 3]  # preferred to sequences
        values = {self._value(layer.name): layer for layer in maps or spatial}
        return values[self._graph.last_read(list(values))]

    def _value(self, name: str) -> str:
        """Return the name, in the graph, of the tensor that a layer returns."""
        value: str = source(tensors_in(self._calls[name].value)[0]).name
        return value

    def _says_something(self, name: str) -> bool:
        """Return whether the layer computes a new value and has no layers inside."""
        call, operation = self._calls[name], self._graph.producers.get(self._value(name))
        is_new = operation is None or operation.kind not in UNLISTED
        return is_new and call.end == call.number + 1

    def _layer(self, name: str) -> Layer:
        call = self._calls[name]
        same = [other for other in self._names.get(name, ()) if other != name]
        aliases = dict.fromkeys([*same, *_short(name, call)])
        shape = (None, *self._shape(call)[1:])
        return Layer(name, shape, type(call.layer).__name__, tuple(aliases))

    def _shape(self, call: Call) -> tuple[int | None, ...]:
        """Return a value's shape with channels last, None for a size that varies."""
        value = tensors_in(call.value)[0]
        if call.number not in self._others:
            return self._graph.shown(value.name)
        other = tensors_in(self._others[call.number].value)[0].shape
        pairs = zip(value.shape, other, strict=True)
        return tuple(a if a == b else None for a, b in pairs)


def _short(name: str, call: Call) -> list[str]:
    """Return shorter names, which may be ambiguous: without the number, and without the path."""
    last = call.path.rpartition("/")[2]
    return [short for short in (call.path, last) if short != name]
