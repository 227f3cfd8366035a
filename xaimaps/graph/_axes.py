"""What each axis of a value means.

An axis is a tuple of parts, outermost first: tokens are the parts H and W on one axis, windows
split H in two. A reshape only regroups parts, so what was split and merged is known again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """Where a sequence of tokens holds its places: row by row, behind `start` other tokens."""

    start: int
    rows: int
    columns: int

    @property
    def stop(self) -> int:
        """The first token behind the grid."""
        return self.start + self.rows * self.columns


@dataclass(frozen=True)
class Part:
    """A run of positions.

    Attributes:
        kind: N batch, C channels, H rows, W columns, T tokens with a grid, ? unknown.
        size: how many positions.
        stride: how many positions of the whole one step is.
        total: the size of the whole.
        grid: of tokens.
    """

    kind: str
    size: int
    stride: int
    total: int
    grid: Grid | None = None

    @classmethod
    def whole(cls, kind: str, size: int, grid: Grid | None = None) -> Part:
        """All positions of one kind."""
        return cls(kind, size, 1, size, grid)

    @property
    def is_outermost(self) -> bool:
        """Whether its positions are in order over the whole, if more coarsely."""
        return self.size * self.stride == self.total

    def cut(self, outer: int) -> tuple[Part, Part]:
        """Split into an outer part of that size, and the rest."""
        inner = self.size // outer
        return (
            replace(self, size=outer, stride=self.stride * inner),
            replace(self, size=inner),
        )

    def join(self, inner: Part) -> Part | None:
        """The two as one, where `inner` is what was cut from this."""
        fits = self.stride == inner.size * inner.stride
        if not fits or (self.kind, self.total) != (inner.kind, inner.total):
            return None
        return replace(self, size=self.size * inner.size, stride=inner.stride)


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]


def axis_of(kind: str, size: int) -> Axis:
    """An axis of one kind; one position needs no name."""
    return () if size == 1 and kind != "N" else (Part.whole(kind, size),)


def unknown(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return tuple(axis_of("?", size) for size in shape)


def kind_of(axis: Axis) -> str:
    """One letter: N, C, H, W, T tokens behind others, S places alone, 1 for none, ? unknown."""
    kinds = "".join(part.kind for part in axis)
    if not axis:
        return "1"
    if kinds in ("H", "W", "HW"):
        return {"HW": "S"}.get(kinds, kinds) if all(p.is_outermost for p in axis) else "?"
    if kinds in ("N", "T"):
        return kinds if axis[0].size == axis[0].total else "?"
    return "C" if "C" in kinds and "N" not in kinds and "?" not in kinds else "?"


def grid_of(axis: Axis) -> Grid:
    """The grid of an axis of kind S or T."""
    if axis[0].grid is not None:
        return axis[0].grid
    return Grid(0, axis[0].size, axis[1].size)


def regroup(axes: Axes, shape: Shape) -> Axes:
    """The axes of a reshaped value."""
    left = [part for axis in reversed(axes) for part in reversed(axis) if part.size > 1]
    batch = any(part.kind == "N" and part.size == 1 for axis in axes for part in axis)
    result: list[Axis] = []
    for place, size in enumerate(shape):
        group = _take(left, size)
        if group is None:
            return (*result, *unknown(shape[place:]))
        alone = batch and place == 0 and size == 1
        result.append((Part.whole("N", 1),) if alone else group)
    return tuple(result)


def _take(left: list[Part], size: int) -> Axis | None:
    """Take parts off the end of `left` that fill an axis of that size."""
    group: list[Part] = []
    while size > 1:
        if not left:
            return None
        part = left.pop()
        if part.size > size and part.size % size == 0:
            part, inner = part.cut(size)
            left.append(inner)
        if size % part.size:
            return None
        size //= part.size
        joined = group[-1].join(part) if group else None
        group[-1:] = [joined] if joined else [*group[-1:], part]
    return tuple(group)
