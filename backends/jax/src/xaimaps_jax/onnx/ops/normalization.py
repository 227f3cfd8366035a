"""Normalisations, always in inference mode."""

from __future__ import annotations

from typing import Any

from xaimaps.errors import UnsupportedModelError
from xaimaps_jax.onnx.ops.windows import spatial_rank
from xaimaps_jax.onnx.registry import op

Array = Any


@op("BatchNormalization", since=7)
def batch_normalization(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Array:
    """(x - mean) * scale / sqrt(var + epsilon) + bias, with the stored statistics."""
    if training_mode:
        raise UnsupportedModelError(
            "BatchNormalization in training mode has no fixed statistics; export the model for "
            "inference"
        )
    factor = scale / xp.sqrt(var + xp.asarray(epsilon, dtype=var.dtype))
    shape = (1, -1, *(1,) * spatial_rank(x))
    return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)
