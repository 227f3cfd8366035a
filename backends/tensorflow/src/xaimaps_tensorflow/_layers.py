"""The layers of a traced model: their names, which are worth showing, and the last with places."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Layer
from xaimaps.errors import LayerError
from xaimaps_tensorflow._graph import VIEWS, Operation, depending_on, source, tensors_in
from xaimaps_tensorflow._grids import Grid, are_mixed, grids
from xaimaps_tensorflow._trace import Call, Calls, named

UNLISTED = VIEWS | frozenset(
    "Transpose Pad PadV2 MirrorPad Slice StridedSlice Split SplitV GatherV2 SpaceToBatchND".split()
)
"""Operations whose results say nothing new."""


class Layers:
    """What a model's layers are called, found from one trace.

    Args:
        calls: of the trace.
        needed: the operations that the output is made by.
        data: the operations that depend on the images.
        batch: the number of images.
    """

    def __init__(
        self, calls: Calls, needed: set[Operation], data: set[Operation], batch: int
    ) -> None:
        self._needed, self._data = needed, data
        self._grids = grids(call for call in calls.values() if _is_layer(call, data, batch))
        self._calls = {name: call for name, call in named(calls) if _is_layer(call, data, batch)}
        self._group()

    def _group(self) -> None:
        """Of several names for one value, as of a block and its last layer, keep the innermost."""
        firsts: dict[Any, str] = {}
        self._names: dict[str, list[str]] = {}
        for name, call in sorted(self._calls.items(), key=lambda item: item[1].order):
            first = firsts.setdefault(source(tensors_in(call.value)[0]).ref(), name)
            self._names.setdefault(first, []).append(name)

    def listed(self) -> tuple[Layer, ...]:
        """The layers that are of use, in the order of computation."""
        return tuple(self._layer(name) for name in self._names if self._says_something(name))

    def unlisted(self, name: str) -> Layer | None:
        """A layer that is left out, by its path."""
        return self._layer(name) if name in self._calls else None

    def number(self, name: str) -> int:
        """Which call makes the value."""
        return self._calls[name].number

    def grid(self, name: str) -> Grid | None:
        """Where a layer's tokens lie, if it has tokens."""
        return self._grids.get(self.number(name))

    def name_of(self, tensor: Any) -> str | None:
        """The layer whose value a tensor is."""
        for name in self._names:
            if source(tensors_in(self._calls[name].value)[0]) is source(tensor):
                return name
        return None

    def default(self) -> Layer:
        """The last layer with more than one place that the output depends on.

        Raises:
            LayerError: no layer has.
        """
        spatial = [
            layer
            for layer in self.listed()
            if layer.is_spatial and self._operation(layer.name) in self._needed
        ]
        if not spatial:
            raise LayerError("no layer of this model has a spatial extent; use a gradient method")
        maps = [layer for layer in spatial if len(layer.shape) > 3]
        return next(filter(self._is_read, reversed(maps)), (maps or spatial)[-1])

    def _is_read(self, layer: Layer) -> bool:
        """Whether all places are still read, and not a class token beside them alone."""
        grid = self.grid(layer.name)
        if grid is None or not grid.others:
            return True
        value = tensors_in(self._calls[layer.name].value)[0]
        return are_mixed(depending_on([value]) & self._needed, self._data)

    def _operation(self, name: str) -> Operation:
        return source(tensors_in(self._calls[name].value)[0]).op

    def _says_something(self, name: str) -> bool:
        """Whether the layer computes anything, and does not consist of others that are listed."""
        call = self._calls[name]
        return self._operation(name).type not in UNLISTED and call.end == call.number + 1

    def _layer(self, name: str) -> Layer:
        call = self._calls[name]
        value, grid = tensors_in(call.value)[0], self.grid(name)
        shape = tuple(value.shape)[1:]
        shape = shape if grid is None else (grid.rows, grid.columns, shape[-1])
        same = [other for other in self._names.get(name, ()) if other != name]
        aliases = dict.fromkeys([*same, *_short(name, call)])
        return Layer(name, (None, *shape), type(call.layer).__name__, tuple(aliases))


def _is_layer(call: Call, data: set[Operation], batch: int) -> bool:
    """Whether a call's value is one batch of vectors, tokens or maps made of the images."""
    tensors = tensors_in(call.value)
    return (
        len(tensors) == 1
        and tensors[0].dtype.is_floating
        and tensors[0].shape.rank is not None
        and tensors[0].shape.rank >= 2
        and tensors[0].shape[0] == batch
        and tensors[0].op in data
    )


def _short(name: str, call: Call) -> list[str]:
    """Shorter names, which may stand for several: without the number, without the path."""
    last = call.path.rpartition("/")[2]
    return [short for short in (call.path, last) if short != name]
