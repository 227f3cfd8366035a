"""Gradients inside a graph: of each image's own score, from one point on."""

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
    own = tf.identity(point)  # what else was computed from the point is constant
    scores, outputs = fn(own)
    return Gradients(outputs, scores, own, gradients_at(scores, [own])[0])


def gradients_at(scores: Tensor, points: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of scores `(N,)` at each point; of scores `(K, N)`, K of each, stacked.

    Each image's score depends on this image alone, so that the gradient of the sum is its own.

    Args:
        scores: what is differentiated.
        points: by these; of those behind the first, one whose gradient is zero everywhere gives
            None.

    Raises:
        UnsupportedModelError: the scores depend on the first point, but not smoothly.
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
    """The gradient of what does not depend on the point.

    Raises:
        UnsupportedModelError: it does.
    """
    if point.op in needed_for([scores]):
        raise UnsupportedModelError(
            "no gradient comes from the scores to the value that is explained, since an operation "
            f"between them jumps, as a cast to integers or an argmax does; {REMEDY}"
        )
    return tf.zeros_like(point)
