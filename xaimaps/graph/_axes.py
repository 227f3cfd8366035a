"""The meaning of each axis of a value.

An axis is a tuple of parts, outermost first. For example, tokens are the parts H and W on one
axis, and windows split H in two. A reshape only regroups parts, so that parts which were split
and later merged are recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Shape = tuple[int, ...]

SIDES = {1: "L", 2: "HW", 3: "DHW"}
"""The kinds of the spatial axes of a signal, an image, and a volume or clip, by their number."""

POSITIONS = "LDHW"
"""The kinds of all spatial axes."""


@dataclass(frozen=True)
class Grid:
    """The positions of the grid in a sequence of tokens, after `start` other tokens.

    Attributes:
        start: the index of its first token.
        rows: the number of rows.
        columns: the number of columns.
        is_by_column: whether the tokens go down one column after the other, and not row by row.
    """

    start: int
    rows: int
    columns: int
    is_by_column: bool = False

    @property
    def stop(self) -> int:
        """The index of the first token after the grid."""
        return self.start + self.rows * self.columns


@dataclass(frozen=True)
class Part:
    """A run of positions: a whole axis of one kind, or a part of it after a reshape.

    Attributes:
        kind: N batch, C channels, H rows, W columns, D slices or frames, L positions of a signal,
            T tokens with a grid, X positions of the image in an unknown order, ? unknown.
        size: the number of positions.
        stride: the distance between consecutive positions, in positions of the whole.
        total: the size of the whole.
        grid: the grid of tokens.
    """

    kind: str
    size: int
    stride: int
    total: int
    grid: Grid | None = None

    @classmethod
    def whole(cls, kind: str, size: int, grid: Grid | None = None) -> Part:
        """Return a part with all positions of one kind."""
        return cls(kind, size, 1, size, grid)

    @property
    def is_outermost(self) -> bool:
        """Whether the positions span the whole in order, possibly in steps larger than 1."""
        return self.size * self.stride == self.total

    def cut(self, outer: int) -> tuple[Part, Part]:
        """Split into an outer part of a given size, and the inner rest."""
        inner = self.size // outer
        return (
            replace(self, size=outer, stride=self.stride * inner),
            replace(self, size=inner),
        )

    def join(self, inner: Part) -> Part | None:
        """Merge with `inner`, or return None unless `inner` was cut from this part."""
        fits = self.stride == inner.size * inner.stride
        if not fits or (self.kind, self.total) != (inner.kind, inner.total):
            return None
        return replace(self, size=self.size * inner.size, stride=inner.stride)


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]


def axis_of(kind: str, size: int) -> Axis:
    """Return an axis of one kind; an axis with one position has no parts, except the batch."""
    return () if size == 1 and kind != "N" else (Part.whole(kind, size),)


def unknown(shape: Sequence[int]) -> Axes:
    """Return axes of unknown meaning."""
    return tuple(axis_of("?", size) for size in shape)


def kind_of(axis: Axis) -> str:
    """Return the kind of an axis as one character.

    N, C, L, D, H and W are as for `Part`. T is tokens that include others than the grid, S is the
    positions of a grid alone, 1 is an axis with one position, and ? is unknown.
    """
    kinds = "".join(part.kind for part in axis)
    if not axis:
        return "1"
    if kinds in (*POSITIONS, "HW", "WH"):
        is_whole = all(part.is_outermost for part in axis)
        return "?" if not is_whole else kinds if len(kinds) == 1 else "S"
    if kinds in ("N", "T"):
        return kinds if axis[0].size == axis[0].total else "?"
    return "C" if "C" in kinds and "N" not in kinds and "?" not in kinds else "?"


def grid_of(axis: Axis) -> Grid:
    """Return the grid of an axis of kind S or T."""
    outer, *inner = axis
    if outer.grid is not None:
        return outer.grid
    if outer.kind == "W":
        return Grid(0, inner[0].size, outer.size, is_by_column=True)
    return Grid(0, outer.size, inner[0].size)


def regroup(axes: Axes, shape: Shape) -> Axes:
    """Return the axes of a reshaped value."""
    left = [part for axis in reversed(axes) for part in reversed(axis) if part.size > 1]
    batch = any(part.kind == "N" and part.size == 1 for axis in axes for part in axis)
    result: list[Axis] = []
    for place, size in enumerate(shape):
        group = _take(left, size)
        if group is None:
            return (*result, *unknown(shape[place:]))
        # parts of size 1 are left out above, so a batch of one image is known by its position
        alone = batch and place == 0 and size == 1
        result.append((Part.whole("N", 1),) if alone else group)
    return tuple(result)


def _take(left: list[Part], size: int) -> Axis | None:
    """Take parts from the end of `left` that fill an axis of a given size, or return None."""
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
