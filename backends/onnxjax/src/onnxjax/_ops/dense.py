"""Convolution of all channels on CPU, whose input gradient is in the order of axes that is fast.

JAX's derivative by the input swaps the channels of the kernel by the labels of its axes. Inside of
a loop, as in integrated gradients, XLA for CPU keeps these labels and takes its slowest algorithm:
3x3 convolutions of 256 channels take 3.4 times as long. The derivative below transposes the kernel
instead.
"""

from __future__ import annotations

import functools
from typing import Any

from onnxjax._jax import custom_jvp, jax, jnp, lax, traced_once

Array = Any
Steps = tuple[int, ...]
Borders = tuple[tuple[int, int], ...]


def _jvp(
    strides: Steps,
    pads: Borders,
    dilations: Steps,
    primals: tuple[Array, Array],
    tangents: tuple[Array, Array],
) -> tuple[Array, Array]:
    (x, w), (dx, dw), zero = primals, tangents, jax.custom_derivatives.SymbolicZero
    y = dense(x, w, strides, pads, dilations)
    pull = functools.partial(
        _pull, w=w, sizes=x.shape[1:-1], strides=strides, pads=pads, dilations=dilations
    )
    dy = [] if isinstance(dx, zero) else [*jax.linear_transpose(pull, y)(dx)]
    if not isinstance(dw, zero):
        dy.append(_convolved(x, dw, strides, pads, dilations))
    return y, functools.reduce(jnp.add, dy)


@traced_once(static_argnums=(2, 3, 4))
@custom_jvp(_jvp, nondiff_argnums=(2, 3, 4), symbolic_zeros=True)
def dense(x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps) -> Array:
    """Convolve `x` (N, *spatial, C) with `w` (*kernel, C, O)."""
    return _convolved(x, w, strides, pads, dilations)


def _convolved(
    x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps, spread: Steps | None = None
) -> Array:
    rank = len(strides)
    maps = (0, rank + 1, *range(1, rank + 1))
    axes = lax.ConvDimensionNumbers(maps, (rank + 1, rank, *range(rank)), maps)
    return lax.conv_general_dilated(
        x, w, strides, pads, lhs_dilation=spread, rhs_dilation=dilations, dimension_numbers=axes
    )


def _pull(
    g: Array, *, w: Array, sizes: Steps, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    """Return the input gradient: `g` convolved with the flipped kernel of swapped channels."""
    edges = tuple(
        ((k - 1) * d - lo, size + lo - 1 - (n - 1) * s)
        for k, d, (lo, _), size, n, s in zip(
            w.shape[:-2], dilations, pads, sizes, g.shape[1:-1], strides, strict=True
        )
    )
    rank = len(edges)
    flipped = jnp.swapaxes(jnp.flip(w, range(rank)), -1, -2)
    return _convolved(g, flipped, (1,) * rank, edges, dilations, strides)
