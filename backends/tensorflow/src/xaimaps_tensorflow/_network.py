"""`KerasNetwork`: the description of a Keras model, from its traces."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from xaimaps.errors import LayerError
from xaimaps.graph import (
    UNLISTED,
    Attention,
    Description,
    Ending,
    Head,
    Layer,
    Operation,
    no_default_layer,
    no_spatial_layer,
)
from xaimaps_tensorflow._graph import source, tensors_in
from xaimaps_tensorflow._inspection import Reading
from xaimaps_tensorflow._trace import Call, Calls, named


class KerasNetwork(Description):
    """The layers of a model by name, its ending and its head.

    Args:
        input_shape: `(*spatial, channels)` of an image, None for a size that varies.
        reading: the analysis of a trace at the usual size.
        others: the calls of a trace at another image size, if sizes vary.
    """

    def __init__(
        self, input_shape: tuple[int | None, ...], reading: Reading, others: Calls
    ) -> None:
        self._input_shape = input_shape
        self._trace, self._graph = reading
        self._others = others
        found = named(self._trace.calls)
        self._calls = {name: call for name, call in found if self._is_layer(call)}
        self._group()

    @property
    def output_name(self) -> str:
        return self._trace.name

    @property
    def output_rank(self) -> int | None:
        rank: int | None = self._trace.output.shape.rank
        return rank

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return self._input_shape

    def _is_layer(self, call: Call) -> bool:
        """Return whether a call's value is a batch of vectors, tokens or maps of the images."""
        tensors = tensors_in(call.value)
        return (
            len(tensors) == 1
            and tensors[0].name in self._graph.axes
            and tensors[0].shape.rank >= 2
            and tensors[0].shape[0] == self._trace.images.shape[0]
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

    def layers(self) -> tuple[Layer, ...]:
        return self._listed

    @functools.cached_property
    def _listed(self) -> tuple[Layer, ...]:
        return tuple(self._layer(name) for name in self._names if self._computes(name))

    def all_layers(self) -> tuple[Layer, ...]:
        return tuple(map(self._layer, self._names))

    def unlisted(self, name: str) -> Layer | None:
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

    def default_layer(self) -> Layer:
        """Return the last layer with several spatial positions on which all scores depend.

        Raises:
            LayerError: no layer has more than one spatial position, or none is known to be read.
        """
        spatial = [layer for layer in self.layers() if layer.is_spatial]
        if not spatial:
            raise no_spatial_layer()
        known = [one for one in spatial if self._value(one.name) in self._graph.producers]
        # maps are preferred to sequences of tokens; those of single frames are neither
        maps = [layer for layer in known if len(layer.shape) == len(self.input_shape) + 1]
        tokens = [layer for layer in known if len(layer.shape) == 3]
        values = {self._value(layer.name): layer for layer in maps or tokens}
        best = self._graph.best_layer(list(values))
        if best is None:
            raise no_default_layer()
        return values[best]

    @property
    def attention(self) -> Attention:
        return self._graph.attention

    @property
    def has_rectifiers(self) -> bool:
        return self._graph.has_rectifiers

    @property
    def rescaling(self) -> Operation | None:
        return self._graph.rescaling

    @property
    def step(self) -> Operation | None:
        return self._graph.step

    @property
    def random(self) -> Operation | None:
        return self._graph.random

    @functools.cached_property
    def ending(self) -> Ending | None:
        """The softmax or sigmoid at the end of the model, with its layer's name."""
        ending = self._graph.ending
        if ending is None:
            return None
        layer = self.name_of(self._tensor(ending.operation.makes[0]))
        named = replace(ending.operation, name=layer or ending.operation.name)
        return ending._replace(operation=named)

    def head(self) -> Head:
        """Return the pooled layer and the dense weights.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer, or the
                pooled value is not that of a layer.
        """
        head = self._graph.head()
        pooled = source(self._tensor(head.pooled))
        layer = self.name_of(pooled)
        if layer is None:
            raise LayerError(
                f"CAM needs a layer that is pooled, but here {pooled.op.type} in the model's own "
                "code is pooled, which has no name; use grad_cam, or make a layer of it, "
                "as keras.layers.ReLU"
            )
        return head._replace(pooled=layer)

    def _tensor(self, name: str) -> Any:
        return self._trace.output.graph.get_tensor_by_name(name)

    def _value(self, name: str) -> str:
        """Return the name, in the graph, of the tensor that a layer returns."""
        value: str = source(tensors_in(self._calls[name].value)[0]).name
        return value

    def _computes(self, name: str) -> bool:
        """Return whether a layer does more than views and slices of what it is given.

        Its result may be a view of what it computes, as of one that runs on each frame of a clip.
        """
        value, graph = self._value(name), self._graph
        while (operation := graph.producers.get(value)) and operation.kind in UNLISTED:
            value = operation.reads[0]
            if value == graph.images or value in self._values - {self._value(name)}:
                return False
        return True

    @functools.cached_property
    def _values(self) -> frozenset[str]:
        """The names, in the graph, of the tensors that layers return."""
        return frozenset(map(self._value, self._names))

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
