"""The operator rules, one file for each family; importing this package registers them all."""

from xaimaps_jax.onnx.ops import (
    activation,
    convolution,
    elementwise,
    linear,
    normalization,
    pooling,
    reduction,
    shape,
)

__all__ = [
    "activation",
    "convolution",
    "elementwise",
    "linear",
    "normalization",
    "pooling",
    "reduction",
    "shape",
]
