"""Quantised operators of the com.microsoft domain, which ONNX Runtime's quantiser writes.

If the inputs and the output of an operator each have their own scale, the operator is computed on
real values, in the order of ONNX Runtime's kernels, so that the resulting integers are the same.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from onnxjax._jax import jax, jnp
from onnxjax._ops.microsoft import DOMAIN
from onnxjax._ops.pooling import max_pool, window_counts
from onnxjax._ops.quantization import (
    as_integers,
    carried,
    centred,
    dequantize,
    dequantize_linear,
    dynamic_quantize_linear,
    integer_product,
    qlinear_conv,
    quantize,
    quantize_linear,
    saturated,
)
from onnxjax._ops.rounding import exact_quotient, fused_multiply_add
from onnxjax._ops.windows import Ints, Window, pooling_windows
from onnxjax.registry import op

Array = Any

_microsoft = functools.partial(op, domain=DOMAIN)


@_microsoft("QuantizeLinear", kind="quantize", bounded=True)
def quantize_linear_microsoft(
    xp: Any, x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1
) -> Array:
    """Quantise as ONNX's own operator does; more integer types are allowed."""
    return quantize_linear(xp, x, scale, zero, axis=axis)


@_microsoft("DequantizeLinear", kind="dequantize", bounded=True)
def dequantize_linear_microsoft(
    xp: Any, x: Array, scale: Array, zero: Array | None = None, *, axis: int = 1
) -> Array:
    """Dequantise as ONNX's own operator does; more integer types are allowed."""
    return dequantize_linear(xp, x, scale, zero, axis=axis)


@_microsoft("QLinearAdd", kind="sum")
def qlinear_add(
    xp: Any,
    a: Array,
    a_scale: Array,
    a_zero: Array | None,
    b: Array,
    b_scale: Array,
    b_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
) -> Array:
    """Return the sum of quantised tensors; the zero points are combined before the rounding."""
    a_ratio, b_ratio = exact_quotient(a_scale, y_scale), exact_quotient(b_scale, y_scale)
    zeros = fused_multiply_add(_or_zero(a_zero), a_ratio, _or_zero(b_zero) * b_ratio)
    fixed = _or_zero(y_zero) - zeros
    total = fused_multiply_add(carried(a), a_ratio, fused_multiply_add(carried(b), b_ratio, fixed))
    dtype = a.dtype if y_zero is None else y_zero.dtype
    return as_integers(xp, saturated(total, None, dtype), dtype)


def _or_zero(zero: Array | None) -> Array:
    return jnp.float32(0) if zero is None else carried(zero)


@_microsoft("QLinearMul", kind="product")
def qlinear_mul(
    xp: Any,
    a: Array,
    a_scale: Array,
    a_zero: Array | None,
    b: Array,
    b_scale: Array,
    b_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
) -> Array:
    """Return the product of two quantised tensors."""
    product = centred(a, a_zero) * centred(b, b_zero)
    return _finish(xp, product * (exact_quotient(a_scale * b_scale, y_scale)), y_zero, a)


def _finish(xp: Any, y: Array, zero: Array | None, like: Array) -> Array:
    """Round and saturate to the type of the zero point, or of an input."""
    dtype = like.dtype if zero is None else zero.dtype
    return as_integers(xp, saturated(y, zero, dtype), dtype)


def _through_reals(
    xp: Any,
    function: Callable[[Array], Array],
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None,
) -> Array:
    """Dequantise, apply a function, and quantise."""
    dtype = x.dtype if y_zero is None else y_zero.dtype
    y = function(dequantize(x, x_scale, x_zero))
    return as_integers(xp, quantize(y, y_scale, y_zero, dtype), dtype)


@_microsoft("QLinearSigmoid", kind="sigmoid")
def qlinear_sigmoid(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
) -> Array:
    """Return 1 / (1 + exp(-x)) of a quantised tensor."""
    return _through_reals(xp, jax.nn.sigmoid, x, x_scale, x_zero, y_scale, y_zero)


@_microsoft("QLinearLeakyRelu", kind="relu")
def qlinear_leaky_relu(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
    *,
    alpha: float = 0.01,
) -> Array:
    """Return x, or alpha * x where x is negative, of a quantised tensor."""
    return _through_reals(
        xp, lambda r: jnp.where(r >= 0, r, alpha * r), x, x_scale, x_zero, y_scale, y_zero
    )


@_microsoft("QLinearSoftmax", kind="softmax")
def qlinear_softmax(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
    *,
    axis: int = -1,
    opset: int,
) -> Array:
    """Return the softmax of a quantised tensor; before opset 13 over all axes from `axis` on."""
    if opset < 13:
        shape = (math.prod(x.shape[: axis % x.ndim]), -1)
        flat = jnp.reshape(x, shape)
        y = qlinear_softmax(jnp, flat, x_scale, x_zero, y_scale, y_zero, opset=13)
        return as_integers(xp, y.reshape(x.shape), x.dtype)
    softmax = functools.partial(jax.nn.softmax, axis=axis)
    return _through_reals(xp, softmax, x, x_scale, x_zero, y_scale, y_zero)


@_microsoft("QLinearAveragePool", kind="average_pool", planar=True)
def qlinear_average_pool(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Return the mean of each window of a quantised tensor."""
    real = _to_front(dequantize(x, x_scale, x_zero), channels_last)
    windows = pooling_windows(
        real.shape[2:],
        kernel_shape,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        pads=pads,
        strides=strides,
    )
    counts = window_counts(windows, include_pad=bool(count_include_pad))
    total = functools.reduce(jnp.add, _elements(real, windows))
    mean = exact_quotient(total, jnp.asarray(counts, total.dtype))
    dtype = x.dtype if y_zero is None else y_zero.dtype
    y = saturated(exact_quotient(mean, y_scale) + _or_zero(y_zero), None, dtype)
    return _to_back(xp, as_integers(xp, y, dtype), channels_last)


def _elements(x: Array, windows: Sequence[Window], axis: int = 2) -> Iterator[Array]:
    """Yield the elements of all windows in row-major order, in which the runtime adds them."""
    if not windows:
        yield x
        return
    for part in windows[0].parts(x, axis, 0):
        yield from _elements(part, windows[1:], axis + 1)


def _to_front(x: Array, channels_last: int) -> Array:
    return jnp.moveaxis(x, -1, 1) if channels_last else x


def _to_back(xp: Any, x: Array, channels_last: int) -> Array:
    return xp.moveaxis(x, 1, -1) if channels_last else x


@_microsoft("QLinearGlobalAveragePool", kind="global_average_pool", planar=True)
def qlinear_global_average_pool(
    xp: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    y_scale: Array,
    y_zero: Array,
    *,
    channels_last: int = 0,
) -> Array:
    """Return the mean over all spatial positions of a quantised tensor."""
    axes = tuple(range(1, x.ndim - 1)) if channels_last else tuple(range(2, x.ndim))
    total = jnp.sum(centred(x, x_zero), axis=axes, keepdims=True)
    count = np.float32(math.prod(x.shape[a] for a in axes))
    return _finish(xp, total * exact_quotient(x_scale, y_scale * count), y_zero, x)


@_microsoft("QLinearConcat", kind="concat")
def qlinear_concat(xp: Any, y_scale: Array, y_zero: Array, *inputs: Array, axis: int) -> Array:
    """Join quantised tensors, each with its scale and zero point."""
    triples = zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    real = jnp.concatenate([dequantize(*triple) for triple in triples], axis=axis)
    return as_integers(xp, quantize(real, y_scale, y_zero, y_zero.dtype), y_zero.dtype)


@_microsoft("QLinearWhere", kind="select")
def qlinear_where(
    xp: Any,
    condition: Array,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    y_scale: Array,
    y_zero: Array,
) -> Array:
    """Select elements from two quantised tensors."""
    real = jnp.where(condition, dequantize(a, a_scale, a_zero), dequantize(b, b_scale, b_zero))
    return as_integers(xp, quantize(real, y_scale, y_zero, y_zero.dtype), y_zero.dtype)


@_microsoft("QGemm", kind="dense")
def qgemm(
    xp: Any,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    c: Array | None = None,
    y_scale: Array | None = None,
    y_zero: Array | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Return a product of quantised matrices plus integers `c`; real values without `y_scale`."""
    left, right = carried(a), carried(b)
    total = integer_product(
        left.T if transA else left, right.T if transB else right, a_zero, b_zero
    )
    total = total if c is None else total + carried(c)
    factor = np.float32(alpha) * a_scale * b_scale
    if y_scale is None:
        return total * factor
    return _finish(xp, total * exact_quotient(factor, y_scale), y_zero, a)


@_microsoft("MatMulIntegerToFloat", kind="matmul")
def matmul_integer_to_float(
    xp: Any,
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero: Array | None = None,
    b_zero: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """Return the real values of a product of quantised matrices."""
    y = integer_product(a, b, a_zero, b_zero) * (a_scale * b_scale)
    return y if bias is None else y + bias


@_microsoft("DynamicQuantizeMatMul", kind="matmul")
def dynamic_quantize_matmul(
    xp: Any,
    a: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array | None = None,
    bias: Array | None = None,
) -> Array:
    """Return the product of a float matrix, quantised by its range, and a quantised matrix."""
    quantised, a_scale, a_zero = dynamic_quantize_linear(jnp, a)
    return matmul_integer_to_float(xp, quantised, b, a_scale, b_scale, a_zero, b_zero, bias)


@_microsoft("QLinearConv", kind="conv", planar=True)
def qlinear_conv_microsoft(
    xp: Any,
    x: Array,
    *others: Array,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Convolve as ONNX's own operator does, with channels last on request."""
    y = qlinear_conv(
        xp,
        _to_front(x, channels_last),
        *others,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return _to_back(xp, y, channels_last)


@_microsoft("NhwcMaxPool", kind="max_pool", homogeneous=True)
def nhwc_max_pool(
    xp: Any,
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Ints = None,
    kernel_shape: Sequence[int],
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Return the maximum of each window, with channels last."""
    y = max_pool(
        xp,
        _to_front(x, 1),
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
        dilations=dilations,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return _to_back(jnp, y, 1)
