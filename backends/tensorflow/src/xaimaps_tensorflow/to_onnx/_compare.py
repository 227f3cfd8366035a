"""The comparison of a graph's outputs with those of the Keras model."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow.to_onnx._match_layers import differences, largest

Array = np.ndarray[Any, Any]

SMALLEST = np.float32(1e-30)
LOOSE = 10
"""The factor of the tolerance for images outside the range for which a model was made."""


def logits(found: Array, expected: Array) -> tuple[Array, Array]:
    """Return the logits of two softmax outputs, up to a constant.

    Images with a single nonzero probability are omitted, because their outputs would be equal for
    many models.
    """
    telling = [np.count_nonzero(image > SMALLEST) > 1 for image in expected]
    chosen = np.array(telling) if any(telling) else np.ones(len(expected), bool)
    first, second = (np.log(np.maximum(p[chosen], SMALLEST)) for p in (found, expected))
    return first, second


def require_equal(found: Array, expected: Array, tolerance: float) -> float:
    """Return the smallest difference on an image; that image is in the model's own range.

    Raises:
        UnsupportedModelError: it is above the tolerance, or the largest difference is far above.
    """
    same = found.shape == expected.shape
    apart = differences(found, expected, largest(expected)) if same else np.array([np.inf])
    apart = apart[~np.isnan(apart)]
    best, worst = float(apart.min(initial=np.inf)), float(apart.max(initial=0))
    if not (best <= tolerance and worst <= LOOSE * tolerance):
        raise UnsupportedModelError(
            f"the converted model must answer as the Keras model does, up to {tolerance:g} of the "
            f"largest output, but they differ by {best:.2g} and {worst:.2g} on two images, so "
            "there is no file; explain the model with the backend 'tensorflow'"
        )
    return best
