"""Transposed and deformable convolution, and the sum of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp, lax
from onnxjax._ops.platforms import lowering
from onnxjax._ops.sampling import interpolate
from onnxjax._ops.windows import Ints, Pads, spatial_rank, window_shifts
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@op("ConvTranspose", kind="conv", linear=True, planar=True)
def conv_transpose(
    xp: Any,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    output_padding: Ints = None,
    output_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Compute the transpose of a convolution with `w` (C, O / group, *kernel)."""
    x, w = jnp.asarray(x), jnp.asarray(w)
    rank = spatial_rank(x)
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    extra = output_padding or (0,) * rank
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    full = [
        (n - 1) * s + e + o for n, s, e, o in zip(x.shape[2:], strides, extents, extra, strict=True)
    ]
    if output_shape or auto_pad.startswith("SAME"):
        sizes = output_shape or [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        cut = _split_pads(full, sizes[-rank:], upper=auto_pad == "SAME_UPPER")
    else:
        edges = pads if pads and auto_pad == "NOTSET" else (0,) * 2 * rank
        cut = list(zip(edges[:rank], edges[rank:], strict=True))
    padding = [
        (e - 1 - lo, e - 1 - hi + o) for e, (lo, hi), o in zip(extents, cut, extra, strict=True)
    ]
    kernel = _transposed_kernel(w, group)
    if lowering().plain_doubles and x.dtype == np.float64:
        y = _group_by_group(x, kernel, strides, padding, dilations, group)
    else:
        y = lax.conv_general_dilated(
            x,
            kernel,
            (1,) * rank,
            padding,
            lhs_dilation=strides,
            rhs_dilation=dilations,
            feature_group_count=group,
        )
    return y if b is None else y + jnp.reshape(b, (1, -1, *(1,) * rank))


def _group_by_group(
    x: Array, kernel: Array, strides: Ints, padding: Pads, dilations: Sequence[int], group: int
) -> Array:
    """Compute without groups and without dilation, by zeros in the kernel (O, C / group, *k)."""
    gaps = [(0, 0, 0), (0, 0, 0), *((0, 0, dilation - 1) for dilation in dilations)]
    spread = lax.pad(kernel, jnp.zeros((), kernel.dtype), gaps)
    parts = zip(jnp.split(x, group, axis=1), jnp.split(spread, group), strict=True)
    ones = (1,) * len(dilations)
    found = [lax.conv_general_dilated(a, k, ones, padding, lhs_dilation=strides) for a, k in parts]
    return jnp.concatenate(found, axis=1)


def _split_pads(full: Sequence[int], sizes: Sequence[int], *, upper: bool) -> Pads:
    """Return the elements to cut from each side, so that the output has these sizes."""
    totals = [n - size for n, size in zip(full, sizes, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if upper else [(large, small) for small, large in halves]


def _transposed_kernel(w: Array, group: int) -> Array:
    """Transpose (C, O / group, *kernel) to (O, C / group, *kernel), flipped in space."""
    parts = w.reshape(group, w.shape[0] // group, *w.shape[1:]).swapaxes(1, 2)
    joined = parts.reshape(-1, *parts.shape[2:])
    return jnp.flip(joined, tuple(range(2, w.ndim)))


@op("Col2Im", static=(1, 2), homogeneous=True)
def col2im(
    xp: Any,
    x: Array,
    image_shape: Array,
    block_shape: Array,
    *,
    dilations: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Add up the patches that are columns of `x` (N, C * block, L) at their positions."""
    x = jnp.asarray(x)
    image, block = tuple(map(int, image_shape)), tuple(map(int, block_shape))
    rank = len(image)
    edges = pads or (0,) * 2 * rank
    padding = list(zip(edges[:rank], edges[rank:], strict=True))
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    channels = x.shape[1] // math.prod(block)

    def columns(picture: Array) -> Array:
        shifted = window_shifts(picture, block, strides, padding, dilations)
        return jnp.stack([part for _, part in shifted], axis=2).reshape(x.shape)

    shape = jax.ShapeDtypeStruct((x.shape[0], channels, *image), x.dtype)
    # Col2Im is the transpose of taking the patches, which is simpler to write
    (y,) = jax.linear_transpose(columns, shape)(x)
    return y


@op("DeformConv", kind="conv", planar=True)
def deform_conv(
    xp: Any,
    x: Array,
    w: Array,
    offset: Array,
    b: Array | None = None,
    mask: Array | None = None,
    *,
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    offset_group: int = 1,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Convolve with a kernel that reads at positions moved by `offset`, times `mask`."""
    x, w, offset = jnp.asarray(x), jnp.asarray(w), jnp.asarray(offset)
    if spatial_rank(x) != 2:
        raise UnsupportedModelError(f"DeformConv works on images, not on {spatial_rank(x)} axes")
    n, kernel, out = x.shape[0], w.shape[2:], offset.shape[2:]
    still = _kernel_positions(
        out, kernel, strides or (1, 1), dilations or (1, 1), (pads or (0, 0))[:2]
    )
    moved = offset.reshape(n * offset_group, math.prod(kernel), 2, *out) + jnp.asarray(
        still, x.dtype
    )
    images = x.reshape(n * offset_group, -1, *x.shape[2:])
    seen = interpolate(images, [moved[:, :, 0], moved[:, :, 1]], "linear", "zeros")
    if mask is not None:
        seen = seen * jnp.reshape(mask, (n * offset_group, 1, *seen.shape[2:]))
    seen = seen.reshape(n, group, x.shape[1] // group, math.prod(kernel), *out)
    kernels = w.reshape(group, w.shape[0] // group, w.shape[1], -1)
    y = jnp.einsum("ngckhw,gock->ngohw", seen, kernels).reshape(n, w.shape[0], *out)
    return y if b is None else y + jnp.reshape(b, (1, -1, 1, 1))


def _kernel_positions(
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    before: Sequence[int],
) -> Array:
    """Return the positions that an undeformed kernel reads: (kernel elements, 2, *out)."""
    corners = np.indices(out) * np.reshape(strides, (2, 1, 1)) - np.reshape(before, (2, 1, 1))
    inside = np.indices(kernel).reshape(2, -1) * np.reshape(dilations, (2, 1))
    return inside.T[:, :, None, None] + corners
