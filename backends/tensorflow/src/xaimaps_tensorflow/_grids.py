"""Tokens of a transformer as a map: which of them lie on the grid that the image was cut into."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf

from xaimaps_tensorflow._graph import Operation, Tensor, tensors_in
from xaimaps_tensorflow._trace import Call

MOST_OTHERS = 8
"""Class tokens and registers, which may stand before the grid, are few."""

PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})


class Grid(NamedTuple):
    """Where the tokens `(N, T, C)` of the image's patches lie, row by row.

    Attributes:
        rows: of patches.
        columns: of patches.
        others: how many tokens stand before them.
    """

    rows: int
    columns: int
    others: int

    def show(self, tokens: Tensor) -> Tensor:
        """The map `(N, rows, columns, C)`."""
        places = tokens[:, self.others :]
        return tf.reshape(places, (-1, self.rows, self.columns, tokens.shape[-1]))

    def hide(self, places: Tensor, original: Tensor) -> Tensor:
        """The tokens again, with those beside the map as they were."""
        tokens = tf.reshape(places, (-1, self.rows * self.columns, places.shape[-1]))
        return tf.concat([original[:, : self.others], tokens], axis=1)


def grids(calls: Iterable[Call]) -> dict[int, Grid]:
    """The grid of each call that returns tokens: that of the last map before it."""
    found: dict[int, Grid] = {}
    size: tuple[int, int] | None = None
    for call in sorted(calls, key=lambda call: call.order):
        shape = tensors_in(call.value)[0].shape
        if shape.rank == 4 and None not in shape[1:3]:
            size = (shape[1], shape[2])
        elif shape.rank == 3 and shape[1] is not None and size is not None:
            others = shape[1] - math.prod(size)
            if math.prod(size) > 1 and 0 <= others <= MOST_OTHERS:
                found[call.number] = Grid(*size, others)
    return found


def are_mixed(operations: Iterable[Operation], data: set[Any]) -> bool:
    """Whether any of these operations is an attention, through which tokens see each other."""
    products = (operation for operation in operations if operation.type in PRODUCTS)
    return any(sum(x.op in data for x in product.inputs) > 1 for product in products)
