"""The conversion of a network's value to channels last, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from xaimaps.errors import UnsupportedModelError
from xaimaps.graph._axes import SIDES, Axes, Grid, Shape, grid_of, kind_of

Array = Any


@dataclass(frozen=True)
class Layout:
    """The conversion of a value to (batch, *spatial, channels) and back.

    Attributes:
        order: the permutation that moves the channels last.
        grid: the grid of tokens, None for a value that is not a sequence of tokens.
        has_others: whether there are tokens outside the grid, which are not shown.
    """

    order: tuple[int, ...]
    grid: Grid | None = None
    has_others: bool = False

    def show(self, xp: Any, value: Array) -> Array:
        """Return a value with channels last, and the tokens of a grid as rows and columns.

        Args:
            xp: the array functions.
            value: the value in the network's own layout.
        """
        value = xp.permute_dims(value, self.order)
        if self.grid is None:
            return value
        tokens = value[:, self.grid.start : self.grid.stop]
        rows, columns = self.grid.rows, self.grid.columns
        if self.grid.is_by_column:
            by_column = xp.reshape(tokens, (value.shape[0], columns, rows, value.shape[2]))
            return xp.permute_dims(by_column, (0, 2, 1, 3))
        return xp.reshape(tokens, (value.shape[0], rows, columns, value.shape[2]))

    def hide(self, xp: Any, shown: Array, original: Array = None) -> Array:
        """Return a value in the network's own layout: the inverse of `show`.

        Args:
            xp: the array functions.
            shown: the value with channels last.
            original: the value that it replaces. Its tokens outside the grid are kept; it is not
                read if there are none.
        """
        if self.grid is not None and self.grid.is_by_column:
            shown = xp.permute_dims(shown, (0, 2, 1, 3))
        if self.grid is not None:
            shown = xp.reshape(shown, (shown.shape[0], -1, shown.shape[-1]))
        if self.grid is not None and self.has_others:
            whole = xp.permute_dims(original, self.order)
            before, after = whole[:, : self.grid.start], whole[:, self.grid.stop :]
            shown = xp.concat([before, shown, after], axis=1)
        inverse = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return xp.permute_dims(shown, inverse)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that `show` gives a value of some shape."""
        last = tuple(shape[axis] for axis in self.order)
        if self.grid is None:
            return last
        return last[0], self.grid.rows, self.grid.columns, last[2]


def as_scores(xp: Any, outputs: Array, batch_axis: int | None = 0) -> Array:
    """Return a model's outputs with the batch first, those of a fully convolutional one as vectors.

    Args:
        xp: the array functions.
        outputs: the value in the network's own layout.
        batch_axis: the axis of the batch; None if outputs of one image have no such axis.
    """
    if batch_axis is None:
        return outputs[None]
    outputs = xp.moveaxis(outputs, batch_axis, 0) if batch_axis else outputs
    sizes = tuple(outputs.shape[1:])
    is_vector = len(sizes) > 1 and None not in sizes and max(sizes) == math.prod(sizes)
    return xp.reshape(outputs, (outputs.shape[0], -1)) if is_vector else outputs


def with_rows(value: Array, count: int) -> Array:
    """Return an output with the axis of the images, which that of one image may lack."""
    return value[None] if count == 1 and tuple(value.shape[:1]) != (1,) else value


def layout_of(axes: Axes, *, is_single: bool = False) -> Layout | None:
    """Return the layout for axes of known meaning, or None.

    Args:
        axes: the axes.
        is_single: whether they are those of a single image, whose batch axis may have been removed
            and added again.
    """
    kinds = [kind_of(axis) for axis in axes]
    if is_single and kinds[:1] == ["1"] and "N" not in kinds:
        kinds[0] = "N"
    kinds = _named(kinds)
    for wanted in ("NC", *(f"N{sides}C" for sides in SIDES.values()), "NSC", "NTC"):
        if sorted(kinds) == sorted(wanted):
            order = tuple(kinds.index(kind) for kind in wanted)
            grid = grid_of(axes[order[1]]) if wanted[1] in "ST" else None
            return Layout(order, grid, has_others=wanted[1] == "T")
    return None


def _named(kinds: list[str]) -> list[str]:
    """Infer the kinds of axes with one position, and of a single unknown axis, from the others."""
    sides = SIDES.get(len(kinds) - 2, "") if len(kinds) > 3 else ""
    missing = iter([kind for kind in sides if kind not in kinds])
    kinds = [next(missing, "C") if kind == "1" else kind for kind in kinds]
    if kinds.count("?") == 1 and "C" not in kinds:
        kinds[kinds.index("?")] = "C"
    return kinds


def require_rows(outputs: Any, count: int) -> None:
    """Refuse outputs without one row for each image, which are not the scores of these images.

    Raises:
        UnsupportedModelError: the first axis is not the batch.
    """
    shape = tuple(outputs.shape)
    if not shape or shape[0] != count:
        images, rest = f"{count} image{'s' * (count != 1)}", ""
        if count > 1:
            rest = ", or run one image at a time (`batch_size=1`)"
        raise UnsupportedModelError(
            f"the outputs must have one row for each image, got shape {shape} for {images}; export "
            f"the model with a batch axis{rest}"
        )
