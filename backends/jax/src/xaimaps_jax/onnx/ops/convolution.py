"""Convolutions, lowered to what each platform is fast at.

XLA's convolution on CPU is slow where a layer is depthwise (one input channel for each output)
or 1x1; there the first is a sum of shifted products with its own derivative, and the second a
matrix product. Accelerators get XLA's own convolution throughout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from xaimaps_jax.onnx.ops.windows import Ints, Pads, spatial_rank, window_pads, window_shifts
from xaimaps_jax.onnx.registry import op

Array = Any

FEW_PRODUCTS = 32
"""Up to so many products for an output, a strided convolution is fastest by its patches."""

BIG_IMAGE = 128
"""From so many places on, a matrix product for each image is faster than one for all."""


@op("Conv")
def conv(
    xp: Any,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Cross-correlate `x` (N, C, *spatial) with `w` (O, C / group, *kernel)."""
    y = convolve(x, w, auto_pad, pads, strides, dilations, group)
    return y if b is None else y + _per_channel(jnp.asarray(b), y)


def convolve(
    x: Array, w: Array, auto_pad: str, pads: Ints, strides: Ints, dilations: Ints, group: int
) -> Array:
    """The convolution itself, with the attributes of Conv."""
    rank = spatial_rank(x)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    padding = window_pads(auto_pad, pads, x.shape[2:], w.shape[2:], strides, dilations)
    return _lower(jnp.asarray(x), jnp.asarray(w), strides, padding, dilations, group)


def _lower(
    x: Array,
    w: Array,
    strides: tuple[int, ...],
    pads: Pads,
    dilations: tuple[int, ...],
    group: int,
) -> Array:
    if jax.default_backend() == "cpu":
        if group == 1 and math.prod(w.shape[2:]) == 1 and not any(map(any, pads)):
            return _pointwise(x, w, strides)
        if group == 1 and max(strides) > 1 and math.prod(w.shape[1:]) <= FEW_PRODUCTS:
            return _by_patches(x, w, strides, pads, dilations)
        if group == x.shape[1] == w.shape[0] and group > 1:
            return _depthwise(x, w[:, 0], strides, tuple(pads), dilations)
    return lax.conv_general_dilated(
        x, w, strides, pads, rhs_dilation=dilations, feature_group_count=group
    )


def _pointwise(x: Array, w: Array, strides: Sequence[int]) -> Array:
    """A 1x1 convolution as one matrix product."""
    if any(s > 1 for s in strides):
        x = x[(..., *(slice(None, None, s) for s in strides))]
    y = _mix(w.reshape(w.shape[:2]), x.reshape(*x.shape[:2], -1))
    return y.reshape(x.shape[0], w.shape[0], *x.shape[2:])


def _mix(w: Array, x: Array) -> Array:
    """Multiply each image of `x` (N, C, places) by `w` (O, C).

    A matrix that is repeated for each image keeps the layout of big images; one product with all
    images, which XLA transposes before and after, is faster for small ones.
    """
    n, _, places = x.shape
    if n > 1 and places < BIG_IMAGE:
        return jnp.einsum("oc,ncp->nop", w, x)
    return jnp.matmul(jnp.broadcast_to(w, (n, *w.shape)), x)


def _by_patches(
    x: Array, w: Array, strides: Sequence[int], pads: Pads, dilations: Sequence[int]
) -> Array:
    """A convolution of few channels as one matrix product with all that its kernel sees."""
    parts = [part for _, part in window_shifts(x, w.shape[2:], strides, pads, dilations)]
    patches = jnp.stack(parts, axis=2)
    y = _mix(w.reshape(len(w), -1), patches.reshape(len(x), math.prod(w.shape[1:]), -1))
    return y.reshape(len(x), len(w), *parts[0].shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise(
    x: Array,
    w: Array,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, ...],
) -> Array:
    """Convolve each channel with its own kernel `w` (C, *kernel), as a sum of shifted products."""
    shifted = window_shifts(x, w.shape[1:], strides, pads, dilations)
    return functools.reduce(
        jnp.add, (part * _per_channel(w[(slice(None), *at)], x) for at, part in shifted)
    )


def _per_channel(values: Array, like: Array) -> Array:
    return values.reshape(1, -1, *(1,) * spatial_rank(like))


def _depthwise_forward(
    x: Array,
    w: Array,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, ...],
) -> tuple[Array, tuple[Array, Array]]:
    return _depthwise(x, w, strides, pads, dilations), (x, w)


def _depthwise_backward(
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilations: tuple[int, ...],
    saved: tuple[Array, Array],
    g: Array,
) -> tuple[Array, Array]:
    """The transpose is a depthwise convolution too: spread out, padded, the kernel flipped."""
    x, w = saved
    spatial = tuple(range(2, x.ndim))
    edges = [
        ((k - 1) * d - lo, size + lo - 1 - (n - 1) * s)
        for k, d, (lo, _), size, n, s in zip(
            w.shape[1:], dilations, pads, x.shape[2:], g.shape[2:], strides, strict=True
        )
    ]
    spread = lax.pad(
        g,
        jnp.zeros((), g.dtype),
        (
            (0, 0, 0),
            (0, 0, 0),
            *((lo, hi, s - 1) for (lo, hi), s in zip(edges, strides, strict=True)),
        ),
    )
    ones = (1,) * len(spatial)
    flipped = jnp.flip(w, tuple(range(1, w.ndim)))
    dx = _depthwise(spread, flipped, ones, ((0, 0),) * len(spatial), dilations)
    dw = [
        jnp.sum(part * g, axis=(0, *spatial))
        for _, part in window_shifts(x, w.shape[1:], strides, pads, dilations)
    ]
    return dx, jnp.stack(dw, axis=1).reshape(w.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
