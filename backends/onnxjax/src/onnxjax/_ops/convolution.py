"""Convolutions, each lowered to operations that are fast on the platform.

`platforms.py` has the choice. A depthwise convolution (one input channel for each output) becomes a
sum of shifted products (`depthwise.py`), and others become matrix products.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp, lax
from onnxjax._ops.channels import elementwise, first, last
from onnxjax._ops.dense import convolved, dense
from onnxjax._ops.depthwise import depthwise
from onnxjax._ops.platforms import lowering
from onnxjax._ops.windows import Ints, Pads, patches, spatial_rank, window_pads
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@dataclass(frozen=True, eq=False)
class Kernel:
    """Weights (O, C / group, *kernel) in the order in which a convolution on CPU reads them.

    They are transposed once, in advance, because a transposition in every pass takes as long as a
    fifth of the pass.

    Attributes:
        by_place: the weights as (*kernel, C / group, O).
    """

    by_place: Array

    def __post_init__(self) -> None:
        _register_kernel()

    @classmethod
    def of(cls, weights: Array) -> Kernel:
        """Return the kernel of weights in ONNX's order, for arrays of JAX or numpy."""
        outputs, channels, *kernel = weights.shape
        if math.prod(kernel) == 1:  # a matrix; XLA does not need a transposed copy of it
            return cls(weights.reshape(outputs, channels).T.reshape(*kernel, channels, outputs))
        return cls(weights.transpose(*range(2, weights.ndim), 1, 0))

    @property
    def weights(self) -> Array:
        """The weights in ONNX's order, (O, C / group, *kernel)."""
        rank = self.by_place.ndim
        return jnp.transpose(self.by_place, (rank - 1, rank - 2, *range(rank - 2)))

    @property
    def shape(self) -> tuple[int, ...]:
        """(O, C / group, *kernel)."""
        *kernel, channels, outputs = self.by_place.shape
        return (outputs, channels, *kernel)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the weights."""
        dtype: np.dtype[Any] = self.by_place.dtype
        return dtype


@functools.cache
def _register_kernel() -> None:
    """Register `Kernel` as a pytree, on first use because JAX may not be installed."""
    jax.tree_util.register_dataclass(Kernel, data_fields=["by_place"], meta_fields=[])


@op("Conv", kind="conv", linear=True, planar=True, integer=("", "QLinearConv"))
def conv(
    xp: Any,
    x: Array,
    w: Array | Kernel,
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
    return y if b is None else elementwise(jnp.add)(y, _per_channel(jnp.asarray(b), y))


def _per_channel(values: Array, like: Array) -> Array:
    return values.reshape(1, -1, *(1,) * spatial_rank(like))


def convolve(
    x: Array,
    w: Array | Kernel,
    auto_pad: str,
    pads: Ints,
    strides: Ints,
    dilations: Ints,
    group: int,
) -> Array:
    """Compute the convolution without a bias, with the attributes of Conv."""
    if len(w.shape) != x.ndim or w.shape[1] * group != x.shape[1]:
        raise UnsupportedModelError(
            f"weights of shape {list(w.shape)} in {group} groups do not fit a map of shape "
            f"{list(x.shape)}; export the model again"
        )
    rank = spatial_rank(x)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    padding = window_pads(auto_pad, pads, x.shape[2:], w.shape[2:], strides, dilations)
    is_disjoint = group == 1 and has_disjoint_windows(x.shape[2:], w.shape[2:], strides, dilations)
    if lowering().channels_last or is_disjoint:
        kernel = w if isinstance(w, Kernel) else Kernel.of(jnp.asarray(w))
        y = convolve_last(last(x), kernel.by_place, strides, padding, dilations, group)
        return first(y)
    return lax.conv_general_dilated(
        jnp.asarray(x),
        w.weights if isinstance(w, Kernel) else jnp.asarray(w),
        strides,
        padding,
        rhs_dilation=dilations,
        feature_group_count=group,
    )


def convolve_last(
    x: Array,
    w: Array,
    strides: tuple[int, ...],
    pads: Pads,
    dilations: tuple[int, ...],
    group: int,
) -> Array:
    """Convolve `x` (N, *spatial, C) with `w` (*kernel, C / group, O), as is fast here."""
    *kernel, channels, outputs = w.shape
    own, size = lowering(), math.prod(kernel)
    if own.pointwise and group == 1 and size == 1 and not any(map(any, pads)):
        return _mix(x[(slice(None), *(slice(None, None, s) for s in strides))], w)
    if group == 1 and has_disjoint_windows(x.shape[1:-1], kernel, strides, dilations):
        return _mix(_pieces(x, kernel, strides, pads), w)
    if group == 1 and max(strides) > 1 and size * channels <= own.few_products:
        return _mix(patches(x, kernel, strides, pads, dilations), w)
    if own.depthwise and group == x.shape[-1] == outputs > channels == 1:
        wide = jnp.promote_types(x.dtype, jnp.float32)  # half-precision values are summed in it
        y = depthwise(x.astype(wide), w[..., 0, :].astype(wide), strides, tuple(pads), dilations)
        return y.astype(x.dtype)
    if own.channels_last and group == 1 and _is_of_known_floats(x):
        return dense(x, w, strides, tuple(pads), dilations)
    return convolved(x, w, strides, tuple(pads), dilations, feature_group_count=group)


def has_disjoint_windows(
    sizes: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> bool:
    """Return whether no two windows overlap, on a platform that cuts such images up.

    So it is in patch embeddings. False for unknown sizes, and for windows of one position.
    """
    is_disjoint = all(s >= k for k, s in zip(kernel, strides, strict=True))
    is_known = max(dilations) == 1 and all(isinstance(size, int) for size in sizes)
    return lowering().disjoint and is_disjoint and is_known and math.prod(kernel) > 1


def _is_of_known_floats(x: Array) -> bool:
    is_known = all(isinstance(size, int) for size in x.shape[1:-1])
    return is_known and jnp.issubdtype(x.dtype, jnp.floating)


def _mix(x: Array, w: Array) -> Array:
    """Compute one matrix product over all positions of all images."""
    outputs = w.shape[-1]
    y = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) @ w.reshape(-1, outputs)
    return y.reshape(*x.shape[:-1], outputs)


def _pieces(x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Pads) -> Array:
    """Return `patches` for windows that do not overlap, by a reshape without concatenation."""
    windows = [*zip(x.shape[1:-1], kernel, strides, pads, strict=True)]
    counts = [max((n + lo + hi - k) // s + 1, 0) for n, k, s, (lo, hi) in windows]
    edges = [
        (lo, count * s - n - lo, 0)
        for count, (n, _, s, (lo, _)) in zip(counts, windows, strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    cells = itertools.chain.from_iterable(zip(counts, strides, strict=True))
    x = x.reshape(x.shape[0], *cells, x.shape[-1])
    for axis, k in enumerate(kernel, start=1):
        x = lax.slice_in_dim(x, 0, k, axis=2 * axis)
    channels = x.ndim - 1
    x = x.transpose(0, *range(1, channels, 2), *range(2, channels, 2), channels)
    return x.reshape(x.shape[0], *counts, math.prod(kernel) * x.shape[-1])
