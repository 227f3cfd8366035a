"""How the meaning of axes follows from the images through a network.

Each operation says by a flow where the axes of its result come from. The flows are few, because
they are about axes alone: a product of matrices, a transposition and a sum over an axis all take
each axis of the result from an axis of an input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xaimaps.graph._axes import (
    Axes,
    Axis,
    Part,
    Shape,
    axis_of,
    grid_of,
    kind_of,
    regroup,
    unknown,
)

Source = tuple[int, int]
"""An input by position, and one of its axes."""

Span = tuple[int, int]
"""The first position that is taken, and the one after the last."""


@dataclass(frozen=True)
class View:
    """What a flow sees of an operation.

    Attributes:
        shape: of the first result.
        axes: of the inputs that depend on the images, None for the others.
        shapes: of the inputs, as far as they are known.
    """

    shape: Shape
    axes: Sequence[Axes | None]
    shapes: Sequence[Shape | None]

    @property
    def data(self) -> Axes:
        """The axes of the first input that depends on the images."""
        return next(axes for axes in self.axes if axes is not None)


class Flow(ABC):
    """Where the axes of a result come from."""

    @abstractmethod
    def result(self, view: View) -> Axes:
        """The meaning of the result's axes."""

    def source(self, axis: int, position: int, view: View) -> int | None:
        """The axis of an input, position by position, behind one of the result's; None if mixed."""
        return None


@dataclass(frozen=True)
class Broadcast(Flow):
    """Inputs that are broadcast together, each element by itself.

    Attributes:
        mixes: axes of the result along which positions are mixed, as by a softmax.
        positions: the inputs that the result follows; None for all.
    """

    mixes: frozenset[int] = frozenset()
    positions: Collection[int] | None = None

    def result(self, view: View) -> Axes:
        """The most that any input knows of each axis."""
        found = list(unknown(view.shape))
        for position, axes in enumerate(view.axes):
            if axes is not None and self._follows(position):
                for axis in range(-1, -1 - min(len(axes), len(found)), -1):
                    if _size(axes[axis]) == view.shape[axis]:
                        found[axis] = _better(found[axis], axes[axis])
        return tuple(found)

    def source(self, axis: int, position: int, view: View) -> int | None:
        axes = view.axes[position]
        rank = len(view.shape)
        if axes is None or not self._follows(position) or axis in {m % rank for m in self.mixes}:
            return None
        found = axis - rank + len(axes)
        return found if found >= 0 else None

    def _follows(self, position: int) -> bool:
        return self.positions is None or position in self.positions


@dataclass(frozen=True)
class Aligned(Flow):
    """Each axis of the result is an axis of one or more inputs: products, transpositions, sums.

    Attributes:
        sources: for each axis of the result, where it may come from.
        channels: the axes that are channels where no source depends on the images.
    """

    sources: tuple[tuple[Source, ...], ...]
    channels: frozenset[int] = frozenset()

    @classmethod
    def transposed(cls, order: Iterable[int]) -> Aligned:
        """The axes of the first input in another order."""
        return cls(tuple(((0, axis),) for axis in order))

    @classmethod
    def reduced(cls, rank: int, axes: Collection[int], *, keeps: bool = False) -> Aligned:
        """The first input, of that rank, without some axes, or with one position of each."""
        left = (() if axis in axes else ((0, axis),) for axis in range(rank))
        return cls(tuple(source for source in left if source or keeps))

    @classmethod
    def matrix_product(
        cls,
        ranks: tuple[int, int],
        positions: tuple[int, int] = (0, 1),
        is_transposed: tuple[bool, bool] = (False, False),
    ) -> Aligned:
        """Rows of one input and columns of another, behind axes that are broadcast together.

        Args:
            ranks: of the two factors.
            positions: of the two factors among the inputs.
            is_transposed: whether the last two axes of a factor are exchanged.
        """
        rank, factors = max(ranks), tuple(zip(positions, ranks, strict=True))
        outer = (
            tuple((position, axis - rank) for position, own in factors if rank - axis <= own)
            for axis in range(rank - 2)
        )
        row = (positions[0], -1 if is_transposed[0] else -2)
        column = (positions[1], -2 if is_transposed[1] else -1)
        return cls((*outer, (row,), (column,)), channels=frozenset({rank - 1}))

    @classmethod
    def einsum(cls, equation: str, rank: int) -> Aligned:
        """The axes that the letters name; nothing is known without `->` or with an ellipsis."""
        terms, arrow, result = equation.replace(" ", "").partition("->")
        if not arrow or "." in terms:
            return cls(tuple(() for _ in range(rank)))
        sources = tuple(
            tuple((i, term.index(axis)) for i, term in enumerate(terms.split(",")) if axis in term)
            for axis in result
        )
        return cls(sources, channels=frozenset(range(rank)))

    def result(self, view: View) -> Axes:
        return tuple(self._axis(axis, size, view) for axis, size in enumerate(view.shape))

    def _axis(self, axis: int, size: int, view: View) -> Axis:
        found = axis_of("?", size)
        for position, place in self.sources[axis]:
            axes = view.axes[position]
            if axes is not None and _size(axes[place]) == size:
                found = _better(found, axes[place])
        is_free = axis in self.channels and all(view.axes[p] is None for p, _ in self.sources[axis])
        return axis_of("C", size) if is_free else found

    def source(self, axis: int, position: int, view: View) -> int | None:
        axes = view.axes[position]
        found = (a for p, a in self.sources[axis] if p == position and axes is not None)
        place = next(found, None)
        return None if place is None else place % len(axes or ())


@dataclass(frozen=True)
class Regrouped(Flow):
    """A reshape: the same elements in the same order."""

    def result(self, view: View) -> Axes:
        return regroup(view.data, view.shape)


@dataclass(frozen=True)
class Planar(Flow):
    """Convolutions and poolings over maps, whatever came before.

    Attributes:
        order: the axes of the result.
    """

    order: str = "NCHW"

    def result(self, view: View) -> Axes:
        if len(view.shape) != len(self.order):
            return Broadcast().result(view)
        sizes = zip(self.order, view.shape, strict=True)
        batch = view.data[0]
        return tuple(batch if kind == "N" else axis_of(kind, size) for kind, size in sizes)


@dataclass(frozen=True)
class Concatenated(Flow):
    """Inputs one after the other along an axis."""

    axis: int

    def result(self, view: View) -> Axes:
        axis = self.axis % len(view.shape)
        found = list(Broadcast().result(view))
        found[axis] = self._joined(view, axis)
        return tuple(found)

    def _joined(self, view: View, axis: int) -> Axis:
        """Channels next to channels, or tokens behind others; rows are no longer in order."""
        size, start, grid = view.shape[axis], 0, None
        kinds = {kind_of(axes[axis]) for axes in view.axes if axes}
        for axes, shape in zip(view.axes, view.shapes, strict=True):
            if axes and kind_of(axes[axis]) in "ST":
                if grid is not None:
                    return axis_of("?", size)
                own = grid_of(axes[axis])
                grid = replace(own, start=own.start + start)
            start += shape[axis] if shape is not None and len(shape) > axis else 0
        if grid is not None:
            return (Part.whole("T", size, grid),)
        return axis_of("C" if kinds <= {"C", "1"} else "?", size)

    def source(self, axis: int, position: int, view: View) -> int | None:
        return axis if view.axes[position] is not None else None


@dataclass(frozen=True)
class Resized(Flow):
    """Each axis by itself, longer or shorter.

    Attributes:
        spans: the positions that are taken of an axis of the first input, where they are known.
        repeats: whether an axis of one position may become one of many by interpolation.
    """

    spans: Mapping[int, Span] = field(default_factory=dict)
    repeats: bool = False

    def result(self, view: View) -> Axes:
        pairs = zip(view.data, view.shape, strict=True)
        return tuple(
            axis if _size(axis) == size else self._part(place, axis, size)
            for place, (axis, size) in enumerate(pairs)
        )

    def _part(self, place: int, axis: Axis, size: int) -> Axis:
        kind = kind_of(axis)
        if kind in "HWC":
            return axis_of(kind, size)
        if kind == "1" and self.repeats:
            return axis_of("?", size)
        return self._tokens(place, axis, size) if kind == "T" else axis_of("?", size)

    def _tokens(self, place: int, axis: Axis, size: int) -> Axis:
        """Tokens of which some are taken: the grid alone, or with others, or none of it."""
        span, grid = self.spans.get(place), grid_of(axis)
        if span is None or span[0] > grid.start or span[1] < grid.stop:
            return axis_of("?", size)
        left = replace(grid, start=grid.start - span[0])
        if left.start == 0 and left.stop == size:
            return Part.whole("H", grid.rows), Part.whole("W", grid.columns)
        return (Part.whole("T", size, left),)

    def source(self, axis: int, position: int, view: View) -> int | None:
        return axis if position == 0 else None


@dataclass(frozen=True)
class Picked(Flow):
    """An axis of the first input replaced by those of an index.

    Attributes:
        axis: that axis.
        spans: the positions that the index takes, if they are known.
    """

    axis: int
    spans: Mapping[int, Span] = field(default_factory=dict)

    def result(self, view: View) -> Axes:
        data, width = view.data, len(view.shape) - len(view.data) + 1
        axis = self.axis % len(data)
        between = unknown(view.shape[axis : axis + width])
        return (*data[:axis], *between, *data[axis + 1 :])

    def source(self, axis: int, position: int, view: View) -> int | None:
        width, first = len(view.shape) - len(view.data) + 1, self.axis % len(view.data)
        if position or first <= axis < first + width:
            return None
        return axis if axis < first else axis - width + 1


def _size(axis: Axis) -> int:
    return math.prod(part.size for part in axis)


def _better(old: Axis, new: Axis) -> Axis:
    return new if _knowledge(new) > _knowledge(old) else old


def _knowledge(axis: Axis) -> int:
    if not axis or any(part.kind == "?" for part in axis):
        return 0
    return 1 if kind_of(axis) == "?" else 2
