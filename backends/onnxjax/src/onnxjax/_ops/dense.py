"""Convolution of all channels on CPU, whose input gradient is in the order of axes that is fast.

JAX's derivative by the input swaps the channels of the kernel by the labels of its axes. Inside of
a loop, as in integrated gradients, XLA for CPU keeps these labels and takes its slowest algorithm:
3x3 convolutions of 256 channels take 3.4 times as long. The derivative below transposes the kernel
instead.
"""

from __future__ import annotations

from typing import Any

from onnxjax._jax import jnp, lax
from onnxjax._ops.pulls import Borders, Steps, pull_borders, with_pull

Array = Any


def convolved(
    x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps, **options: Any
) -> Array:
    """Convolve `x` (N, *spatial, C) with `w` (*kernel, C, O) by XLA, with options of `lax`."""
    rank = len(strides)
    maps = (0, rank + 1, *range(1, rank + 1))
    axes = lax.ConvDimensionNumbers(maps, (rank + 1, rank, *range(rank)), maps)
    return lax.conv_general_dilated(
        x, w, strides, pads, rhs_dilation=dilations, dimension_numbers=axes, **options
    )


def _pull(
    g: Array, *, w: Array, sizes: Steps, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    """Return the input gradient: `g` convolved with the flipped kernel of swapped channels."""
    borders = pull_borders(w.shape[:-2], sizes, g.shape[1:-1], strides, pads, dilations)
    rank = len(borders)
    flipped = jnp.swapaxes(jnp.flip(w, range(rank)), -1, -2)
    return convolved(g, flipped, (1,) * rank, borders, dilations, lhs_dilation=strides)


@with_pull(_pull)
def dense(x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps) -> Array:
    """Convolve `x` (N, *spatial, C) with `w` (*kernel, C, O)."""
    return convolved(x, w, strides, pads, dilations)
