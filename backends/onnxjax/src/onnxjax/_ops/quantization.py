"""Quantised tensors, and the integer operators on them.

In JAX, a quantised tensor is an array of float32 that holds integers, because only floats have
gradients. The derivative of rounding is the identity (straight-through), and that of saturation is
0 beyond the range of the integers. Sums of products are exact below 2**24. If all inputs are
static, the results are true integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from onnxjax._arrays import is_static
from onnxjax._jax import custom_jvp, jnp, lax
from onnxjax._ops.convolution import convolve
from onnxjax._ops.rounding import exact_quotient
from onnxjax._ops.windows import Ints
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@op("QuantizeLinear", since=10, kind="quantize", bounded=True)
def quantize_linear(
    xp: Any,
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Array:
    """Return round(x / scale) + zero_point, saturated to the range of its type."""
    dtype = zero_point.dtype if zero_point is not None else _named_type(output_dtype or 2)
    kind = _named_type(precision) if precision else np.dtype(np.float32)
    scale = spread(scale, x.shape, axis, block_size)
    zero = None if zero_point is None else spread(zero_point, x.shape, axis, block_size)
    y = quantize(jnp.asarray(x).astype(kind), jnp.asarray(scale).astype(kind), zero, dtype)
    return as_integers(xp, y, dtype)


@op("DequantizeLinear", since=10, kind="dequantize", bounded=True)
def dequantize_linear(
    xp: Any,
    x: Array,
    scale: Array,
    zero_point: Array | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Array:
    """Return (x - zero_point) * scale."""
    kind = _named_type(output_dtype) if output_dtype else scale.dtype
    scale = spread(scale, x.shape, axis, block_size)
    zero = None if zero_point is None else spread(zero_point, x.shape, axis, block_size)
    return dequantize(x, scale, zero).astype(kind)


def _named_type(number: int) -> np.dtype[Any]:
    """Return the numpy type for an ONNX type number."""
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))


def spread(values: Array, shape: tuple[int, ...], axis: int, block_size: int = 0) -> Array:
    """Reshape scales or zero points for broadcasting: a scalar, one along an axis, or blocks."""
    xp = np if is_static(values) else jnp
    if block_size:
        repeated = xp.repeat(values, block_size, axis=axis)
        return xp.take(repeated, np.arange(shape[axis]), axis=axis)
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if a == axis % len(shape) else 1 for a in range(len(shape))])


def carried(x: Array) -> Array:
    """Convert a quantised tensor to floats; numpy arrays stay in numpy, for folding."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def centred(x: Array, zero: Array | None) -> Array:
    """Return a quantised tensor as floats, minus its zero point."""
    return carried(x) if zero is None else carried(x) - carried(zero)


def dequantize(x: Array, scale: Array, zero: Array | None) -> Array:
    """Return the real values of a quantised tensor, at least in float32."""
    return centred(x, zero) * carried(scale).astype(jnp.float32)


def quantize(x: Array, scale: Array, zero: Array | None, dtype: Any) -> Array:
    """Quantise real values to floats that hold integers."""
    return saturated(exact_quotient(x, scale), zero, dtype)


def saturated(x: Array, zero: Array | None, dtype: Any) -> Array:
    """Round, add the zero point, and saturate to the range of the integers."""
    low, high = _range(dtype)
    y = nearest(x.astype(jnp.float32)) + (0 if zero is None else carried(zero))
    return jnp.where(y < low, low, jnp.where(y > high, high, y))


def _nearest_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.round(*primals), tangents[0]


@custom_jvp(_nearest_jvp)
def nearest(x: Array) -> Array:
    """Round to the nearest integer, ties to even; its derivative is the identity."""
    return jnp.round(x)


def _range(dtype: Any) -> tuple[float, float]:
    """Return the smallest and largest integer; a computed zero point means uint8."""
    dtype = np.dtype(np.uint8) if dtype == np.float32 else dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise UnsupportedModelError(
            f"quantisation to {np.dtype(dtype).name} is not supported, only to integers"
        )
    limits = jnp.iinfo(dtype)
    return float(limits.min), float(limits.max)


def as_integers(xp: Any, y: Array, dtype: Any) -> Array:
    """Convert to true integers if nothing is traced."""
    return np.asarray(y).astype(dtype) if xp is np else y


@op("DynamicQuantizeLinear", since=11, kind="quantize")
def dynamic_quantize_linear(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """Quantise to 8 bits by the range of the data; return also scale and zero point."""
    x = jnp.asarray(x)
    fixed = lax.stop_gradient(x)  # the scale is a constant in derivatives
    low, high = jnp.minimum(jnp.min(fixed), 0), jnp.maximum(jnp.max(fixed), 0)
    scale = jnp.where(high > low, exact_quotient(high - low, jnp.asarray(255, x.dtype)), 1)
    zero = jnp.clip(jnp.round(exact_quotient(-low, scale)), 0, 255)
    y = quantize(x, scale, zero, np.uint8)
    return as_integers(xp, y, np.uint8), scale, as_integers(xp, zero, np.uint8)


@op("ConvInteger", since=10, kind="conv", planar=True)
def conv_integer(
    xp: Any,
    x: Array,
    w: Array,
    x_zero_point: Array | None = None,
    w_zero_point: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Convolve integers."""
    w_zero = None if w_zero_point is None else spread(w_zero_point, w.shape, 0)
    y = convolve(
        centred(x, x_zero_point), centred(w, w_zero), auto_pad, pads, strides, dilations, group
    )
    return as_integers(xp, y, np.int32)


@op("QLinearConv", since=10, kind="conv", planar=True)
def qlinear_conv(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    w: Array,
    w_scale: Array,
    w_zero: Array,
    y_scale: Array,
    y_zero: Array,
    b: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Convolve quantised tensors."""
    kernel = centred(w, spread(w_zero, w.shape, 0))
    total = convolve(centred(x, x_zero), kernel, auto_pad, pads, strides, dilations, group)
    if b is not None:
        total = total + spread(carried(b), total.shape, 1)
    factor = spread(exact_quotient(x_scale * w_scale, y_scale), total.shape, 1)
    return as_integers(xp, saturated(total * factor, y_zero, y_zero.dtype), y_zero.dtype)


def _rows(values: Array | None) -> Array:
    """Return one value for each row of a matrix, or a single value."""
    if values is None:
        return None
    values = jnp.asarray(values)
    return values[:, None] if values.ndim == 1 and values.size > 1 else values


def integer_product(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """Return the matrix product of two quantised tensors minus their zero points."""
    return jnp.matmul(centred(a, _rows(a_zero)), centred(b, b_zero))


@op("MatMulInteger", since=10, kind="matmul")
def matmul_integer(
    xp: Any,
    a: Array,
    b: Array,
    a_zero_point: Array | None = None,
    b_zero_point: Array | None = None,
) -> Array:
    """Return a matrix product of integers."""
    return as_integers(xp, integer_product(a, b, a_zero_point, b_zero_point), np.int32)


@op("QLinearMatMul", since=10, kind="matmul")
def qlinear_matmul(
    xp: Any,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
) -> Array:
    """Return a matrix product of quantised tensors."""
    total = integer_product(a, b, a_zero, b_zero)
    a_scale, b_scale, y_scale = (
        carried(s).astype(jnp.float32) for s in (a_scale, b_scale, y_scale)
    )
    factor = exact_quotient(_rows(a_scale) * b_scale, _rows(y_scale))
    y = saturated(total * factor, _rows(y_zero), y_zero.dtype)
    return as_integers(xp, y, y_zero.dtype)
