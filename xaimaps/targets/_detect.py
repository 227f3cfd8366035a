"""The outputs of a detector as boxes: decoding, and non-maximum suppression.

The heads are told by their shapes, for one image of A candidates and C classes:

    (4 + C, A)      YOLOv8 to v11: centre, size, class scores
    (A, 5 + C)      YOLOv5, YOLOX: centre, size, objectness, class scores
    (A, C), (A, 4)  SSD and DETR, in two outputs: class scores, and boxes
    (A, 6)          YOLOv10 and others with suppression inside: corners, score, class
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from xaimaps.targets._base import Labels
from xaimaps.targets._heads import Head, RowsHead, Size, TableHead, grid_of, overlaps

Array = np.ndarray[Any, Any]
LEAST_SCORE = 0.25
"""The least score of a box in the list of boxes."""

MOST_OVERLAP = 0.45
"""The largest overlap, as intersection over union, of two listed boxes of one class."""

NORMALISED = 2.0
"""The largest coordinate of boxes that are in units of the image's size, with a margin."""

EXTRAS = (1, 32, 51)
"""The numbers of fields after the classes of YOLOv8: an angle, a mask's coefficients, points."""

FOUND = 6
"""The number of fields of a row of corners, score and class."""

BOX_VALUES = range(4, 25, 2)
"""The numbers of values of a box relative to an anchor: four, and two for each of its points."""


class Detection(NamedTuple):
    """A box that a detector has found.

    Attributes:
        category: the index of the class.
        score: that of the class for this box, 0 to 1.
        corners: x0, y0, x1, y1 in pixels of the model's input.
        places: the positions in the image's flattened outputs whose values make the score.
        row: corners, score and class as in the outputs, if these have rows in order of the score.
    """

    category: int
    score: float
    corners: tuple[float, float, float, float]
    places: tuple[int, ...]
    row: tuple[float, ...] = ()

    def holds(self, x: float, y: float) -> bool:
        """Return whether a point lies in the box."""
        x0, y0, x1, y1 = self.corners
        return x0 <= x <= x1 and y0 <= y <= y1


@dataclass(frozen=True, eq=False)
class Candidates:
    """All boxes that a head makes for one image.

    Attributes:
        corners: `(A, 4)`, x0, y0, x1, y1 in pixels of the model's input.
        scores: `(A, C)`, 0 to 1.
        places: `(A, C, P)`, the positions in the flattened outputs that make each score: the
            class alone, or the class and the objectness, whose product is the score.
        is_logits: whether the outputs are the logits of these scores.
        head: reads other outputs in the same way; None if the boxes are in another output.
        rows: `(A, 6)`, corners, score and class, if the rows are in order of the score; a box then
            has another position in a changed image.
    """

    corners: Array
    scores: Array
    places: Array
    is_logits: bool
    head: Head | None = None
    rows: Array | None = None

    def detection(self, candidate: int, category: int) -> Detection:
        """Return one candidate as a box of a class."""
        x0, y0, x1, y1 = map(float, self.corners[candidate])
        score = float(self.scores[candidate, category])
        places = tuple(map(int, self.places[candidate, category]))
        row = () if self.rows is None else tuple(map(float, self.rows[candidate]))
        return Detection(int(category), score, (x0, y0, x1, y1), places, row)

    def found(self) -> list[Detection]:
        """Return the boxes that stay after suppression, best first."""
        categories = self.scores.argmax(axis=1)
        scores = self.scores.max(axis=1)
        kept: list[int] = []
        for category in np.unique(categories[scores >= LEAST_SCORE]):
            own = np.flatnonzero((categories == category) & (scores >= LEAST_SCORE))
            kept += own[suppressed(self.corners[own], scores[own], MOST_OVERLAP)].tolist()
        kept.sort(key=lambda candidate: (-scores[candidate], candidate))
        return [self.detection(candidate, categories[candidate]) for candidate in kept]

    def best(self, category: int | None = None) -> Detection:
        """Return the box with the highest score of a class, or of any class."""
        scores = self.scores if category is None else self.scores[:, [category]]
        candidate, column = np.unravel_index(scores.argmax(), scores.shape)
        return self.detection(int(candidate), int(column) if category is None else category)


def suppressed(corners: Array, scores: Array, most_overlap: float) -> Array:
    """Return the indices that greedy non-maximum suppression keeps, best first.

    Args:
        corners: `(A, 4)`.
        scores: `(A,)`.
        most_overlap: a box is dropped if it overlaps a better one by more.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[overlaps(np, corners[best], corners[rest]) <= most_overlap]
    return np.asarray(kept, int)


def candidates(
    outputs: Array,
    others: Callable[[], Mapping[str, Array]],
    size: Size,
    labels: Labels = None,
    ending: str | None = None,
) -> Candidates | None:
    """Decode the outputs for one image, or return None if they are not those of a detector.

    Args:
        outputs: the explained outputs, without the batch axis.
        others: returns the other outputs of the model by name, without the batch axis.
        size: of the image.
        labels: the class names, if known.
        ending: the final activation that the outputs lack; see `ModelInfo`.
    """
    if outputs.ndim != 2 or not np.isfinite(outputs).all():
        return None
    pair = _boxes_beside(outputs, others())
    if pair is not None:
        return _pair(outputs, *pair, size, labels, ending)
    return _in_order(outputs, size, labels) or _one_table(outputs, size, labels)


# Rows in order of the score


def _in_order(outputs: Array, size: Size, labels: Labels) -> Candidates | None:
    """Read rows of corners, score and class, best first, or return None."""
    count, fields = outputs.shape
    if fields - FOUND not in (0, *EXTRAS):
        return None
    rows = outputs[:, :FOUND]
    corners, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5]
    in_order = (np.diff(scores) <= 0).all() and scores.min() >= 0 and scores.max() <= 1
    are_classes = (classes == classes.round()).all() and classes.min() >= 0
    most = int(classes.max()) + 1 if labels is None else len(labels)
    are_boxes = (corners[:, 2:] >= corners[:, :2]).all()
    if not (in_order and are_classes and are_boxes and classes.max() < most):
        return None
    head = RowsHead(most)
    table = head.boxes(np, rows).classes * scores[:, None]
    places = np.arange(count)[:, None, None] * fields + np.full((1, most, 1), 4)
    return Candidates(_in_pixels(corners, size), table, places, False, head, rows)


# One table of centres, sizes and scores


def _one_table(outputs: Array, size: Size, labels: Labels) -> Candidates | None:
    for table in _tables(outputs, size, labels):
        head = _with_units(table, outputs)
        is_found = _are_boxes(head.corners(np, outputs)) and not _is_attention(head, outputs)
        if is_found:
            return _scored(head, outputs)
    return None


def _are_boxes(corners: Array) -> bool:
    extent = corners[:, 2:] - corners[:, :2]
    return bool((extent >= 0).all() and (extent > 0).mean() > 0.9)


def _tables(outputs: Array, size: Size, labels: Labels) -> Iterator[TableHead]:
    """Yield the readings of the outputs as a table that agree with the class names."""
    options = [(True, 4), (False, 5)]
    if labels is not None:
        options += [(False, 4), (True, 5)]
    for is_transposed, first in options:
        count, fields = outputs.shape[::-1] if is_transposed else outputs.shape
        last = fields if labels is None else first + len(labels)
        is_exact = last == fields and (labels is not None or count > fields)
        has_more = first == 4 and fields - last in EXTRAS and grid_of(count, size) is not None
        if last > first and (is_exact or has_more):
            yield TableHead(is_transposed, first, last, size)


def _with_units(head: TableHead, outputs: Array) -> TableHead:
    """Tell the units of the coordinates and of the scores."""
    values = head.values(np, outputs)
    used = values[:, 4 : head.last]
    head = replace(
        head,
        is_relative=head.has_objectness and _is_relative(values[:, :2], head.size),
        is_logits=bool((used < 0).any() or (used > 1).any()),
    )
    return replace(head, is_normalised=_is_normalised(head.corners(np, outputs)))


def _is_relative(centre: Array, size: Size) -> bool:
    """Whether centres are relative to their cells, as in YOLOX, and not in the image."""
    grid = grid_of(len(centre), size)
    if grid is None:
        return False
    origins, strides = grid
    return bool(abs(centre).mean() < abs(centre - origins - strides / 2).mean())


def _is_attention(head: TableHead, outputs: Array) -> bool:
    """Whether the scores of each class are a distribution over positions."""
    used = head.values(np, outputs)[:, 4 : head.last]
    return not head.is_logits and bool((abs(used.sum(axis=0) - 1) < 1e-3).all())


def _scored(head: TableHead, outputs: Array) -> Candidates:
    own = head.values(np, np.arange(outputs.size).reshape(outputs.shape))
    places = own[:, head.first : head.last, None]
    boxes = head.boxes(np, outputs)
    scores = boxes.classes
    if head.has_objectness:
        objectness = np.broadcast_to(own[:, 4, None, None], places.shape)
        places = np.concatenate([places, objectness], axis=-1)
        scores = scores * boxes.objectness[:, None]
    return Candidates(boxes.corners, scores, places, head.is_logits, head)


def _sigmoid(logits: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(logits.astype(np.float64) / 2)))


def _in_pixels(corners: Array, size: Size) -> Array:
    """Return corners in pixels, from pixels or from units of the image's size."""
    scale = np.asarray([*size[::-1], *size[::-1]], corners.dtype)
    return corners * scale if _is_normalised(corners) else corners


def _is_normalised(corners: Array) -> bool:
    """Whether corners are in units of the image's size."""
    return bool(abs(corners).max(initial=0) <= NORMALISED)


# Scores and boxes in two outputs


def _boxes_beside(outputs: Array, others: Mapping[str, Array]) -> tuple[str, Array] | None:
    """Return the output `(A, 4)` with a box for each row of the explained scores, and its name."""
    for name, value in others.items():
        if value.size == 4 * len(outputs) and value.shape[-1:] == (4,):
            return name, value.reshape(-1, 4)
    return None


def _pair(
    outputs: Array, name: str, boxes: Array, size: Size, labels: Labels, ending: str | None
) -> Candidates | None:
    is_centred = "pred_boxes" in name or (boxes[:, 2:] < boxes[:, :2]).any()
    if is_centred:
        centre, extent = boxes[:, :2], boxes[:, 2:]
        if (extent < 0).any():
            return None  # offsets from anchors
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1)
    background = -1 if is_centred else 0  # the last class in DETR, the first in SSD
    is_logits = ending is not None or bool(outputs.min() < 0 or outputs.max() > 1)
    scores = _probabilities(outputs, labels, ending, background) if is_logits else outputs
    columns = list(range(scores.shape[1]))
    has_background = len(columns) > 1 and bool((abs(scores.sum(axis=1) - 1) < 1e-3).all())
    if has_background and (labels is None or len(labels) < len(columns)):
        columns.pop(background)
    places = np.arange(outputs.size).reshape(outputs.shape)[:, columns, None]
    return Candidates(_in_pixels(boxes, size), scores[:, columns], places, is_logits)


def _probabilities(logits: Array, labels: Labels, ending: str | None, background: int) -> Array:
    """Return the softmax of logits that have a background class, or their sigmoids."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    softmax = np.asarray(powers / powers.sum(axis=1, keepdims=True))
    if ending is not None:
        has_background = ending == "softmax"
    elif labels is not None:
        has_background = logits.shape[1] > len(labels)
    else:  # most candidates are the background
        has_background = bool(np.median(softmax[:, background]) > 0.5)
    return softmax if has_background else _sigmoid(logits)
