"""The matrix of a linear resize, for drawing maps and inside of methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import ArrayInputError

Floats = np.ndarray[Any, np.dtype[np.float32]]


def linear_weights(n_in: int, n_out: int) -> Floats:
    """Make the matrix of a linear resize with half-pixel centres and clamped edges.

    The same as `align_corners=False` in PyTorch, OpenCV's `INTER_LINEAR` and, for growing sizes,
    `jax.image.resize`. A shrinking resize takes the two nearest samples too: no antialiasing.

    Args:
        n_in: the number of samples.
        n_out: the number of samples after the resize.

    Returns:
        `(n_out, n_in)` float32; every row sums to 1.

    Raises:
        ArrayInputError: if a number is below 1.
    """
    if n_in < 1 or n_out < 1:
        raise ArrayInputError(
            f"sizes must be at least 1, got {n_in} and {n_out}; give maps and sizes with pixels"
        )
    centre = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    distance = np.abs(centre[:, None] - np.arange(n_in))
    weights: Floats = np.maximum(0, 1 - distance).astype(np.float32)
    return weights
