"""How a network passes the meaning of axes from the images to every value.

The flow of an operation defines where the axes of its result come from. A few flows suffice,
because they concern axes only: a matrix product, a transposition and a sum over an axis all take
each axis of the result from an axis of an input.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from xaimaps.graph._axes import (
    POSITIONS,
    SIDES,
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
"""The position of an input, and one of its axes."""

Span = tuple[int, int]
"""The first position of a slice, and the one after its last."""


class Taken(NamedTuple):
    """The positions p of an axis that are read: those with start <= p // inner % size < stop.

    They are a span of the axis (`inner` is 1), or of one of the axes that a reshape has merged.
    """

    start: int
    stop: int
    size: int
    inner: int = 1


Region = Mapping[int, Taken]
"""The part of a value that is read: the positions on some axes; the other axes are read whole."""


@dataclass(frozen=True)
class View:
    """The part of an operation that a flow depends on.

    Attributes:
        shape: the shape of the result.
        axes: the axes of each input that depends on the images, None for the other inputs.
        shapes: the shape of each input, None if it is unknown.
    """

    shape: Shape
    axes: Sequence[Axes | None]
    shapes: Sequence[Shape | None]

    @property
    def data(self) -> Axes:
        """The axes of the first input that depends on the images."""
        return next(axes for axes in self.axes if axes is not None)


class Flow(ABC):
    """The rule by which the axes of a result follow from the axes of the inputs."""

    @abstractmethod
    def result(self, view: View) -> Axes:
        """Return the meaning of the result's axes."""

    def source(self, axis: int, position: int, view: View) -> int | None:
        """Return the axis of an input from which an axis of the result follows.

        None if the input has no such axis, or if the operation mixes its positions.
        """
        return None

    def read(self, position: int, region: Region, view: View) -> Region | None:
        """Return the part of an input on which a part of the result depends.

        None if the result does not depend on this input at all.
        """
        sizes, found = view.shapes[position], dict[int, Taken]()
        for axis, taken in region.items():
            source = self.source(axis, position, view)
            if source is not None and sizes is not None and sizes[source] == view.shape[axis]:
                found[source] = taken
        return found


@dataclass(frozen=True)
class Broadcast(Flow):
    """Inputs that are broadcast together, element by element.

    Attributes:
        mixes: axes of the result along which the operation mixes positions, as a softmax does.
        positions: the inputs from which the result takes its axes; None for all.
    """

    mixes: frozenset[int] = frozenset()
    positions: Collection[int] | None = None

    def result(self, view: View) -> Axes:
        """Return, for each axis, the meaning from the input that knows most about it."""
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
        sources: for each axis of the result, the input axes that it may come from.
        channels: the axes that are channels if no source depends on the images.
    """

    sources: tuple[tuple[Source, ...], ...]
    channels: frozenset[int] = frozenset()

    @classmethod
    def transposed(cls, order: Iterable[int]) -> Aligned:
        """Return the flow of the first input with its axes in another order."""
        return cls(tuple(((0, axis),) for axis in order))

    @classmethod
    def batch_alone(cls, rank: int) -> Aligned:
        """Return the flow of elements in an order that depends on the images."""
        return cls((((0, 0),), *((),) * (rank - 1)))

    @classmethod
    def reduced(cls, rank: int, axes: Collection[int], *, keeps: bool = False) -> Aligned:
        """Return the flow of a reduction of the first input.

        Args:
            rank: the rank of that input.
            axes: the axes to reduce.
            keeps: whether each reduced axis keeps one position.
        """
        left = (() if axis in axes else ((0, axis),) for axis in range(rank))
        return cls(tuple(source for source in left if source or keeps))

    @classmethod
    def matrix_product(
        cls,
        ranks: tuple[int, int],
        positions: tuple[int, int] = (0, 1),
        is_transposed: tuple[bool, bool] = (False, False),
    ) -> Aligned:
        """Return the flow of a product of stacks of matrices.

        The last two axes are the rows of the first factor and the columns of the second. The axes
        before them are broadcast together.

        Args:
            ranks: the ranks of the two factors.
            positions: the positions of the two factors among the inputs.
            is_transposed: whether the last two axes of each factor are exchanged.
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
        """Return the flow of an equation, by its letters.

        The axes are unknown if the equation has no `->` or has an ellipsis.
        """
        terms, arrow, result = equation.replace(" ", "").partition("->")
        if not arrow or "." in terms:
            return cls(tuple(() for _ in range(rank)))
        sources = tuple(
            tuple((i, term.index(axis)) for i, term in enumerate(terms.split(",")) if axis in term)
            for axis in result
        )
        return cls(sources, channels=frozenset(range(rank)))

    def result(self, view: View) -> Axes:
        if len(view.shape) != len(self.sources):  # as of a damaged equation
            return tuple(axis_of("?", size) for size in view.shape)
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

    def read(self, position: int, region: Region, view: View) -> Region | None:
        before = view.shapes[position]
        if before is None or position:
            return {}
        steps = [math.prod(before[axis + 1 :]) for axis in range(len(before))]
        found = dict[int, Taken]()
        for axis, taken in region.items():
            step = taken.inner * math.prod(view.shape[axis + 1 :])
            for place, own in enumerate(steps):
                # the positions that `taken` counts lie on this axis
                if step % own == 0 and own * before[place] % (step * taken.size) == 0:
                    found[place] = taken._replace(inner=step // own)
        return found


@dataclass(frozen=True)
class Planar(Flow):
    """A convolution or pooling over feature maps, whose spatial axes are new.

    Over tokens or patches it is no operation on the image, and its axes keep their meaning.

    Attributes:
        order: the kinds of the axes of the result.
        is_depthwise: whether channels are not mixed, as by a pooling.
        is_pointwise: whether spatial positions are not mixed, as by a 1x1 convolution.
    """

    order: str
    is_depthwise: bool = False
    is_pointwise: bool = False

    @classmethod
    def of_rank(
        cls,
        rank: int,
        *,
        channels_last: bool,
        is_depthwise: bool = False,
        is_pointwise: bool = False,
    ) -> Flow:
        """Return the flow over values with a number of axes, which may have no spatial ones."""
        if rank - 2 not in SIDES:
            return Broadcast()
        sides = SIDES[rank - 2]
        order = f"N{sides}C" if channels_last else f"NC{sides}"
        return cls(order, is_depthwise, is_pointwise)

    def result(self, view: View) -> Axes:
        is_signal = any(part.kind == "L" for axis in view.data for part in axis)
        if len(view.shape) != len(self.order) or ("L" in self.order and not is_signal):
            return Broadcast().result(view)
        # frameworks also compute a signal's convolutions as those of an image of one row
        order = self.order.replace("H", "L").replace("W", "L") if is_signal else self.order
        fresh = [axis_of(*one) for one in zip(order, view.shape, strict=True)]
        fresh[0] = view.data[0]
        if not any(map(_is_no_side, view.data)):
            return tuple(fresh)
        kept = zip(view.data, view.shape, strict=True)
        sides = [axis if _size(axis) == size else axis_of("?", size) for axis, size in kept]
        pairs = zip(order, fresh, sides, strict=True)
        return tuple(side if kind in POSITIONS else axis for kind, axis, side in pairs)

    def source(self, axis: int, position: int, view: View) -> int | None:
        separate = {"N": True, "C": self.is_depthwise}
        is_kept = separate.get(self.order[axis], self.is_pointwise)
        return axis if is_kept and position == 0 else None


@dataclass(frozen=True)
class Concatenated(Flow):
    """Inputs that are joined along an axis."""

    axis: int

    def result(self, view: View) -> Axes:
        axis = self.axis % len(view.shape)
        found = list(Broadcast().result(view))
        found[axis] = self._joined(view, axis)
        return tuple(found)

    def _joined(self, view: View, axis: int) -> Axis:
        """Return the axis along which the inputs are joined.

        Channels stay channels, and a grid among other tokens is still known. Joined rows or columns
        are no longer in order, so that they are unknown.
        """
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

    def read(self, position: int, region: Region, view: View) -> Region | None:
        axis = self.axis % len(view.shape)
        found = dict(super().read(position, region, view) or {})
        sizes = [None if shape is None else shape[axis] for shape in view.shapes[: position + 1]]
        taken = region.get(axis)
        if taken is None or taken.size != view.shape[axis] or None in sizes:
            return found
        *before, own = [size for size in sizes if size is not None]
        start, stop = (min(max(end - sum(before), 0), own) for end in taken[:2])
        return {**found, axis: Taken(start, stop, own)} if start < stop else None


@dataclass(frozen=True)
class Resized(Flow):
    """A change of sizes, as by a slice, a pad or a resize: each axis of the first input is kept.

    Attributes:
        spans: for each axis with a known slice, the positions that it takes.
        repeats: whether interpolation may extend an axis with one position.
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
        if kind in f"{POSITIONS}C":
            return axis_of(kind, size)
        if kind == "1" and self.repeats:
            return axis_of("?", size)
        return self._tokens(place, axis, size) if kind == "T" else axis_of("?", size)

    def _tokens(self, place: int, axis: Axis, size: int) -> Axis:
        """Return the axis of a slice of tokens: the grid alone, with others, or unknown."""
        span, grid = self.spans.get(place), grid_of(axis)
        if span is None or span[0] > grid.start or span[1] < grid.stop:
            return axis_of("?", size)
        left = replace(grid, start=grid.start - span[0])
        if left.start == 0 and left.stop == size:
            rows, columns = Part.whole("H", grid.rows), Part.whole("W", grid.columns)
            return (columns, rows) if grid.is_by_column else (rows, columns)
        return (Part.whole("T", size, left),)

    def source(self, axis: int, position: int, view: View) -> int | None:
        return axis if position == 0 else None

    def read(self, position: int, region: Region, view: View) -> Region | None:
        found = super().read(position, region, view) or {}
        return found if position else {**found, **_taken(self.spans, view)}


@dataclass(frozen=True)
class Picked(Flow):
    """One axis of the first input replaced by the axes of an index, or put in another order.

    Attributes:
        axis: the axis that is replaced.
        spans: for that axis, the positions that the index takes, if they are known.
    """

    axis: int
    spans: Mapping[int, Span] = field(default_factory=dict)

    def result(self, view: View) -> Axes:
        if view.axes[0] is None:  # a table that is read at positions of the images
            return unknown(view.shape)
        data, width = view.data, len(view.shape) - len(view.data) + 1
        axis = self.axis % len(data)
        kind = "X" if _has_positions(data[axis]) else "C" if kind_of(data[axis]) == "C" else "?"
        between = [axis_of(kind, size) for size in view.shape[axis : axis + width]]
        return (*data[:axis], *between, *data[axis + 1 :])

    def source(self, axis: int, position: int, view: View) -> int | None:
        width, first = len(view.shape) - len(view.data) + 1, self.axis % len(view.data)
        if position or first <= axis < first + width:
            return None
        return axis if axis < first else axis - width + 1

    def read(self, position: int, region: Region, view: View) -> Region | None:
        found = super().read(position, region, view) or {}
        return found if position else {**found, **_taken(self.spans, view)}


def gathered(axis: int, indices: Sequence[int], size: int, *, keeps_rank: bool) -> Flow:
    """Return the flow of a gather along an axis: a slice if the indices are consecutive.

    Args:
        axis: the axis.
        indices: the static indices.
        size: the number of positions on that axis.
        keeps_rank: whether the result has as many axes as the input.
    """
    taken = [index % size for index in indices]
    spans = {axis: (min(taken), max(taken) + 1)} if taken else {}
    is_slice = all(after == before + 1 for before, after in itertools.pairwise(taken))
    return Resized(spans) if keeps_rank and is_slice else Picked(axis, spans)


def _taken(spans: Mapping[int, Span], view: View) -> Region:
    shape = view.shapes[0] or ()
    return {axis: Taken(*span, shape[axis]) for axis, span in spans.items() if axis < len(shape)}


def _is_no_side(axis: Axis) -> bool:
    """Return whether an axis has positions of the image, but is none of its own axes.

    Such axes are tokens, or the positions inside the patches of an unfolded map.
    """
    return kind_of(axis) not in POSITIONS and _has_positions(axis)


def _has_positions(axis: Axis) -> bool:
    return any(part.kind in f"{POSITIONS}TX" for part in axis)


def _size(axis: Axis) -> int:
    return math.prod(part.size for part in axis)


def _better(old: Axis, new: Axis) -> Axis:
    return new if _knowledge(new) > _knowledge(old) else old


def _knowledge(axis: Axis) -> int:
    if not axis or any(part.kind == "?" for part in axis):
        return 0
    return 1 if kind_of(axis) == "?" else 2
