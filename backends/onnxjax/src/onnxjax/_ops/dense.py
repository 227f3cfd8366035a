"""Convolution of all channels on CPU, whose input gradient is in the order of axes that is fast.

JAX's derivative by the input swaps the channels of the kernel by the labels of its axes. Inside of
a loop, as in integrated gradients, XLA for CPU keeps these labels and takes its slowest algorithm:
3x3 convolutions of 256 channels take 3.4 times as long. The derivative below transposes the kernel
instead.

The gradient of a convolution with strides has zeros between its positions. Where few channels come
from many, as at the image, the positions of each phase of the strides become channels instead, of a
convolution without zeros: a third of the time for the first layer of a ResNet and 8 images.

A transposed kernel of many channels takes longer than the convolution of few positions, because
XLA for CPU transposes without regard to caches. Then one product of the gradient and the kernel, in
the kernel's own order, makes the gradient of each window, and these are added: a quarter of the
time for a 3x3 convolution of 512 channels at 7x7 positions.
"""

from __future__ import annotations

import math
from typing import Any

from onnxjax._jax import jax, jnp, lax
from onnxjax._ops.pulls import Borders, Steps, phases, pull_borders, with_pull, without_pads
from onnxjax._ops.windows import patches

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
    *_, channels, outputs = w.shape
    if _has_few_positions(g):
        return _pull_by_window(g, w, sizes, strides, pads, dilations)
    if max(dilations) == 1 < max(strides) and channels * math.prod(strides) < outputs:
        return _pull_by_phase(g, w, sizes, strides, pads)
    borders = pull_borders(w.shape[:-2], sizes, g.shape[1:-1], strides, pads, dilations)
    rank = len(borders)
    flipped = jnp.swapaxes(jnp.flip(w, range(rank)), -1, -2)
    return convolved(g, flipped, (1,) * rank, borders, dilations, lhs_dilation=strides)


def _pull_by_phase(g: Array, w: Array, sizes: Steps, strides: Steps, pads: Borders) -> Array:
    """Return the input gradient, with the positions of each phase of the strides as channels."""
    rank, (channels, outputs) = len(sizes), w.shape[-2:]
    counts, lengths, borders = phases(w.shape[:-2], sizes, g.shape[1:-1], strides, pads)
    more = [(0, c * s - k) for c, s, k in zip(counts, strides, w.shape, strict=False)]
    split = [size for pair in zip(counts, strides, strict=True) for size in pair]
    apart = [*range(0, 2 * rank, 2), 2 * rank + 1, *range(1, 2 * rank, 2), 2 * rank]
    w = jnp.pad(w, [*more, (0, 0), (0, 0)]).reshape(*split, channels, outputs)
    w = jnp.flip(w.transpose(apart), range(rank)).reshape(*counts, outputs, -1)

    y = convolved(g, w, (1,) * rank, borders, (1,) * rank)
    y = y.reshape(g.shape[0], *lengths, *strides, channels)
    together = [axis for first in range(1, rank + 1) for axis in (first, first + rank)]
    y = y.transpose(0, *together, 2 * rank + 1)
    whole = y.reshape(g.shape[0], *(n * s for n, s in zip(lengths, strides, strict=True)), channels)
    return without_pads(whole, sizes, pads)


def _has_few_positions(g: Array) -> bool:
    """Return whether there are more channels than positions in all images, if these are known."""
    *positions, outputs = g.shape
    return all(isinstance(n, int) for n in positions) and math.prod(positions) < outputs


def _pull_by_window(
    g: Array, w: Array, sizes: Steps, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    """Return the input gradient as the sum of those of all windows, in float32 at least."""
    *kernel, channels, outputs = w.shape
    wide = jnp.promote_types(g.dtype, jnp.float32)
    axes = (((g.ndim - 1,), (1,)), ((), ()))
    own = lax.dot_general(g, w.reshape(-1, outputs), axes, preferred_element_type=wide)

    def windows(x: Array) -> Array:
        return patches(x, kernel, strides, pads, dilations)

    like = jax.ShapeDtypeStruct((g.shape[0], *sizes, channels), wide)
    return jax.linear_transpose(windows, like)(own)[0].astype(g.dtype)


@with_pull(_pull)
def dense(x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps) -> Array:
    """Convolve `x` (N, *spatial, C) with `w` (*kernel, C, O)."""
    return convolved(x, w, strides, pads, dilations)
