"""The heads of detectors, whose outputs are read as boxes in any framework's arrays.

`_detect` tells which head the outputs of a clean image are those of; a changed image is then read
in the same way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.targets._base import Array, one_hot

Size = tuple[int, int]
"""The height and width of the images."""

STRIDES = (4, 8, 16, 32, 64)


class Boxes(NamedTuple):
    """All boxes that a head makes for each image.

    Attributes:
        corners: `(..., A, 4)`, x0, y0, x1, y1.
        classes: the scores of the classes, `(..., A, C)`, 0 to 1.
        objectness: `(..., A)`, 0 to 1; the best class's score where a head has none.
    """

    corners: Array
    classes: Array
    objectness: Array


class Head(ABC):
    """How outputs `(..., A, F)` are read as boxes; equal for heads that are read alike."""

    @abstractmethod
    def boxes(self, xp: Any, outputs: Array) -> Boxes:
        """Return all boxes."""

    @abstractmethod
    def own(self, xp: Any, outputs: Array, place: Array) -> tuple[Array, Array]:
        """Return the corners `(N, 4)` and classes `(N, C)` of one box of each image.

        Args:
            xp: the namespace.
            outputs: those of the clean images.
            place: the array of the target of this box, `(P, N)`; see `Detection`.
        """


@dataclass(frozen=True)
class RowsHead(Head):
    """Rows of corners, score and class in order of the score, `(A, 6)` or longer.

    Attributes:
        n_classes: C.
    """

    n_classes: int

    def boxes(self, xp: Any, outputs: Array) -> Boxes:
        scores, indices = outputs[..., 4], outputs[..., 5]
        return Boxes(outputs[..., :4], self._one_hot(xp, indices), scores)

    def own(self, xp: Any, outputs: Array, place: Array) -> tuple[Array, Array]:
        row = xp.astype(xp.matrix_transpose(place), outputs.dtype)
        return row[..., :4], self._one_hot(xp, row[..., 5])

    def _one_hot(self, xp: Any, indices: Array) -> Array:
        classes = xp.arange(self.n_classes, dtype=indices.dtype)
        return xp.astype(xp.abs(indices[..., None] - classes) < 0.5, indices.dtype)


@dataclass(frozen=True)
class TableHead(Head):
    """A table of centres, sizes, an objectness or none, and the scores of the classes.

    Attributes:
        is_transposed: whether the outputs are `(F, A)`.
        first: the field of the first class: 4, or 5 after an objectness.
        last: the field after the last class.
        size: of the images.
        is_relative: whether centres are relative to their cells, as in YOLOX, and not in the image.
        is_normalised: whether coordinates are in units of the image's size.
        is_logits: whether scores are logits.
    """

    is_transposed: bool
    first: int
    last: int
    size: Size
    is_relative: bool = False
    is_normalised: bool = False
    is_logits: bool = False

    @property
    def has_objectness(self) -> bool:
        """Whether a field before the classes tells of any object."""
        return self.first == 5

    def values(self, xp: Any, outputs: Array) -> Array:
        """Return the outputs as `(..., A, F)`."""
        return xp.matrix_transpose(outputs) if self.is_transposed else outputs

    def boxes(self, xp: Any, outputs: Array) -> Boxes:
        values = self.values(xp, outputs)
        scores = values[..., 4 : self.last]
        scores = 0.5 * (1 + xp.tanh(scores / 2)) if self.is_logits else scores
        classes = scores[..., self.first - 4 :]
        objectness = scores[..., 0] if self.has_objectness else xp.max(classes, axis=-1)
        return Boxes(self.corners(xp, outputs), classes, objectness)

    def corners(self, xp: Any, outputs: Array) -> Array:
        """Return the corners of all boxes in pixels."""
        values = self.values(xp, outputs)
        centre, extent = values[..., :2], values[..., 2:4]
        if self.is_relative:
            grid = grid_of(values.shape[-2], self.size)
            assert grid is not None, "only a grid has cells"
            origins, strides = grid
            centre, extent = centre * strides + origins, xp.exp(extent) * strides
        corners = xp.concat([centre - extent / 2, centre + extent / 2], axis=-1)
        scale = np.asarray(2 * self.size[::-1], np.float32)
        return corners * scale if self.is_normalised else corners

    def own(self, xp: Any, outputs: Array, place: Array) -> tuple[Array, Array]:
        boxes, last = self.boxes(xp, outputs), outputs.shape[-1]
        index = place[0, ...] % last if self.is_transposed else place[0, ...] // last
        chosen = one_hot(xp, index, boxes.objectness)[..., None]
        corners, classes = (
            xp.sum(xp.where(chosen, every, xp.zeros_like(every)), axis=-2) for every in boxes[:2]
        )
        return corners, classes


def overlaps(xp: Any, boxes: Array, others: Array) -> Array:
    """Return the intersection over union of boxes `(..., 4)`; 0 for boxes without an area."""
    low = xp.maximum(boxes[..., :2], others[..., :2])
    high = xp.minimum(boxes[..., 2:], others[..., 2:])
    shared = _area(xp, low, high)
    areas = [_area(xp, box[..., :2], box[..., 2:]) for box in (boxes, others)]
    return divided(xp, shared, areas[0] + areas[1] - shared)


def _area(xp: Any, low: Array, high: Array) -> Array:
    return xp.prod(xp.maximum(high - low, xp.zeros_like(low)), axis=-1)


def grid_of(count: int, size: Size) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Return the origin `(A, 2)` and the stride `(A, 1)` of the cell of each box.

    None if no two or more strides in a row have as many cells; one alone may be a grid of tokens.
    """
    for first in range(len(STRIDES)):
        for last in range(first + 2, len(STRIDES) + 1):
            strides = STRIDES[first:last]
            shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
            if sum(rows * columns for rows, columns in shapes) == count:
                cells = [np.indices(shape)[::-1].reshape(2, -1).T for shape in shapes]
                steps = np.repeat(np.array(strides, "f4"), [len(one) for one in cells])[:, None]
                return np.concatenate(cells, dtype=np.float32) * steps, steps
    return None
