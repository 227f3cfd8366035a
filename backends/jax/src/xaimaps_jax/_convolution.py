"""The convolutions of JAX functions, which are lowered as those of ONNX files are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from onnxjax.lowering import convolve_last, has_disjoint_windows, lowering

Array = Any


def is_lowered(x: Array, w: Array, params: Mapping[str, Any]) -> bool:
    """Return whether a convolution of floats, not transposed, is faster otherwise here."""
    return (
        (lowering().channels_last or _has_disjoint_windows(x, w, params))
        and params["batch_group_count"] == 1
        and set(params["lhs_dilation"]) <= {1}
        and min((pad for pads in params["padding"] for pad in pads), default=0) >= 0
        and jnp.issubdtype(x.dtype, jnp.floating)
    )


def _has_disjoint_windows(x: Array, w: Array, params: Mapping[str, Any]) -> bool:
    (_, _, *spatial), (_, _, *kernel), _ = params["dimension_numbers"]
    sizes, windows = [x.shape[axis] for axis in spatial], [w.shape[axis] for axis in kernel]
    steps = params["window_strides"], params["rhs_dilation"]
    return params["feature_group_count"] == 1 and has_disjoint_windows(sizes, windows, *steps)


def convolved(x: Array, w: Array, params: Mapping[str, Any]) -> Array:
    """Convolve with the parameters of JAX's primitive, in any order of axes.

    XLA removes the transpositions between consecutive convolutions.
    """
    (batch, channels, *spatial), (outputs, inputs, *kernel), result = params["dimension_numbers"]
    x = jnp.transpose(x, (batch, *spatial, channels))
    w = jnp.transpose(w, (*kernel, inputs, outputs))
    strides, dilations = tuple(params["window_strides"]), tuple(params["rhs_dilation"])
    pads = list(params["padding"])
    y = convolve_last(x, w, strides, pads, dilations, params["feature_group_count"])
    batch, channels, *spatial = result
    return jnp.moveaxis(y, range(y.ndim), (batch, *spatial, channels))
