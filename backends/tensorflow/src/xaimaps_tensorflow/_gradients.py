"""Gradients inside a graph, of each image's own score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from xaimaps.backend import Gradients
from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow._graph import needed_for

Tensor = Any

REMEDY = "use a method without gradients, or explain an output before it"


def differentiate(fn: Callable[[Tensor], tuple[Tensor, Tensor]], point: Tensor) -> Gradients:
    """Differentiate `fn(point) -> (scores, outputs)`; see `Backend.differentiate`."""
    own = tf.identity(point)  # a new tensor, so that all other uses of the point are constants
    scores, outputs = fn(own)
    return Gradients(outputs, scores, own, gradients_at(scores, [own])[0])


def gradients_at(scores: Tensor, points: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients of scores `(N,)` at each point; for scores `(K, N)`, K of each, stacked.

    Each image's score depends on this image alone. Therefore the gradient of the sum of all scores
    is, for each image, that of its own score.

    Args:
        scores: the scores to differentiate.
        points: the tensors by which to differentiate. A point after the first gives None if no
            gradient reaches it.

    Raises:
        UnsupportedModelError: the scores depend on the first point, but every path has an
            operation without a derivative.
    """
    if len(scores.shape) == 1:
        return _gradients(scores, points)
    rows = [_gradients(scores[k], points) for k in range(scores.shape[0])]
    return [None if row[0] is None else tf.stack(row) for row in zip(*rows, strict=True)]


def _gradients(scores: Tensor, points: Sequence[Tensor]) -> list[Tensor | None]:
    try:
        first, *others = tf.gradients(scores, list(points))
    except LookupError as error:
        raise UnsupportedModelError(
            f"the model has an operation without a gradient ({error}); {REMEDY}"
        ) from None
    return [_zeros(scores, points[0]) if first is None else tf.convert_to_tensor(first), *others]


def _zeros(scores: Tensor, point: Tensor) -> Tensor:
    """Return a zero gradient for scores that do not depend on the point.

    Raises:
        UnsupportedModelError: the scores do depend on the point.
    """
    if point.op in needed_for([scores]):
        raise UnsupportedModelError(
            "no gradient comes from the scores to the value that is explained, since an operation "
            f"between them jumps, as a cast to integers or an argmax does; {REMEDY}"
        )
    return tf.zeros_like(point)
