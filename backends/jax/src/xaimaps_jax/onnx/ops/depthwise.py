"""Depthwise convolution on CPU: a primitive, for XLA's own and the transpose of ours are slow.

As a sum of shifted products it is fast, but the transpose of that sum, which JAX would find, is
not: it is again a depthwise convolution, and written as one it takes a third to two thirds of the
time. A primitive says so and keeps every transformation of JAX: it is linear in either argument.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from xaimaps_jax.onnx.ops.windows import window_shifts

Array = Any
Steps = tuple[int, ...]
Borders = tuple[tuple[int, int], ...]


def depthwise(x: Array, w: Array, strides: Steps, pads: Borders, dilations: Steps) -> Array:
    """Convolve each channel of `x` (N, *spatial, C) with its own kernel in `w` (*kernel, C)."""
    return _depthwise.bind(x, w, strides=strides, pads=pads, dilations=dilations)


def _shifted_products(
    x: Array, w: Array, *, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    shifted = window_shifts(x, w.shape[:-1], strides, pads, dilations, axis=1)
    return functools.reduce(jnp.add, (part * w[at] for at, part in shifted))


def _shape(x: Any, w: Any, **attributes: Any) -> Any:
    y = jax.eval_shape(functools.partial(_shifted_products, **attributes), x, w)
    return x.update(shape=y.shape, dtype=y.dtype)


def _transpose_maps(
    g: Array, x: Any, w: Array, *, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    """What each place of `x` gave to `g`: this spread out and padded, and the kernel flipped."""
    edges = [
        ((k - 1) * d - lo, size + lo - 1 - (n - 1) * s, s - 1)
        for k, d, (lo, _), size, n, s in zip(
            w.shape[:-1], dilations, pads, x.aval.shape[1:-1], g.shape[1:-1], strides, strict=True
        )
    ]
    spread = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    rank = len(edges)
    flipped = jnp.flip(w, range(rank))
    return depthwise(spread, flipped, (1,) * rank, ((0, 0),) * rank, dilations)


def _transpose_kernel(
    g: Array, x: Array, w: Any, *, strides: Steps, pads: Borders, dilations: Steps
) -> Array:
    """What each element of `w` gave to `g`, over all images and places."""
    *kernel, channels = w.aval.shape
    shifted = window_shifts(x, kernel, strides, pads, dilations, axis=1)
    sums = [jnp.sum(part * g, axis=range(g.ndim - 1)) for _, part in shifted]
    return jnp.stack(sums).reshape(*kernel, channels)


def _batched(
    values: tuple[Array, Array], axes: tuple[Any, Any], **attributes: Any
) -> tuple[Array, int]:
    """One convolution for all: as more images, or where kernels differ too as more channels."""
    (x, w), (of_x, of_w) = values, axes
    if of_w is None:
        x = jnp.moveaxis(x, of_x, 0)
        y = depthwise(x.reshape(-1, *x.shape[2:]), w, **attributes)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    w = jnp.moveaxis(w, of_w, -2)
    x = jnp.expand_dims(x, -2) if of_x is None else jnp.moveaxis(x, of_x, -2)
    x = jnp.broadcast_to(x, (*x.shape[:-2], *w.shape[-2:]))
    y = depthwise(x.reshape(*x.shape[:-2], -1), w.reshape(*w.shape[:-2], -1), **attributes)
    return y.reshape(*y.shape[:-1], *w.shape[-2:]), y.ndim - 1


_depthwise = Primitive("depthwise")
_depthwise.def_impl(_shifted_products)
_depthwise.def_abstract_eval(_shape)
ad.defbilinear(_depthwise, _transpose_maps, _transpose_kernel)
batching.primitive_batchers[_depthwise] = _batched
mlir.register_lowering(_depthwise, mlir.lower_fun(_shifted_products, multiple_results=False))
