"""Whether a graph answers as the Keras model does that it was made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import UnsupportedModelError
from xaimaps_tensorflow.to_onnx._match_layers import differences, largest

Array = np.ndarray[Any, Any]

SMALLEST = np.float32(1e-30)
LOOSE = 10
"""How much further the answers to images may be apart that a model was not made for."""


def logits(found: Array, expected: Array) -> tuple[Array, Array]:
    """What two softmaxes were made of, up to a summand, for images where that can be told.

    An answer that is certain is the same for many models.
    """
    telling = [np.count_nonzero(image > SMALLEST) > 1 for image in expected]
    chosen = np.array(telling) if any(telling) else np.ones(len(expected), bool)
    first, second = (np.log(np.maximum(p[chosen], SMALLEST)) for p in (found, expected))
    return first, second


def require_equal(found: Array, expected: Array, tolerance: float) -> float:
    """The difference on the image that the model was made for.

    Raises:
        UnsupportedModelError: it is above the tolerance, or that on another image far above.
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
