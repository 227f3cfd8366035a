"""Float operators of the com.microsoft domain, which ONNX Runtime's optimiser writes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from onnxjax._jax import jax, jnp
from onnxjax._ops.convolution import conv
from onnxjax._ops.normalization import layer_normalization, rms_normalization
from onnxjax._ops.windows import Ints
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import find_rule, op

Array = Any
DOMAIN = "com.microsoft"

_microsoft = functools.partial(op, domain=DOMAIN)

_ACTIVATIONS: dict[str, tuple[int, tuple[str, ...]]] = {
    "Relu": (14, ()),
    "Sigmoid": (13, ()),
    "Tanh": (13, ()),
    "HardSwish": (14, ()),
    "LeakyRelu": (16, ("alpha",)),
    "HardSigmoid": (6, ("alpha", "beta")),
    "Clip": (6, ("min", "max")),
}
"""For each fused activation, the opset of its rule and the names of its parameters."""


def _activate(xp: Any, x: Array, name: str, params: Sequence[float]) -> Array:
    """Apply an activation that is fused into another operator."""
    if not name:
        return x
    opset, names = _ACTIVATIONS.get(name, (0, ()))
    rule = find_rule("", name, opset) if opset else None
    if rule is None:
        raise UnsupportedModelError(
            f"the fused activation {name!r} is not supported, only {', '.join(_ACTIVATIONS)}"
        )
    return rule.fn(xp, x, **dict(zip(names, params, strict=False)))


@_microsoft("FusedConv", kind="conv", planar=True)
def fused_conv(
    xp: Any,
    x: Array,
    w: Array,
    b: Array | None = None,
    z: Array | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Ints = None,
    group: int = 1,
    kernel_shape: Ints = None,
    pads: Ints = None,
    strides: Ints = None,
) -> Array:
    """Convolve, add `z`, and apply an activation."""
    y = conv(
        xp,
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return _activate(jnp, y if z is None else y + z, activation, activation_params)


@_microsoft("FusedGemm", kind="dense")
def fused_gemm(
    xp: Any,
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Compute alpha * A @ B + beta * C, and apply an activation."""
    y = alpha * jnp.matmul(jnp.transpose(a) if transA else a, jnp.transpose(b) if transB else b)
    params = [p for p in (activation_alpha, activation_beta, activation_gamma) if p is not None]
    return _activate(jnp, y if c is None else y + beta * jnp.asarray(c), activation, params)


@_microsoft("FusedMatMul", "TransposeMatMul", kind="matmul", linear=True)
def fused_matmul(
    xp: Any,
    a: Array,
    b: Array,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Array:
    """Return alpha * A @ B, with either matrix transposed on request."""
    a, b = _oriented(a, transA, transBatchA), _oriented(b, transB, transBatchB)
    return alpha * jnp.matmul(a, b)


def _oriented(a: Array, transposed: int, rows_first: int) -> Array:
    """Move the rows from before the batch axes, and swap the last two axes, on request."""
    a = jnp.moveaxis(jnp.asarray(a), 0, -2) if rows_first else jnp.asarray(a)
    return jnp.swapaxes(a, -1, -2) if transposed and a.ndim > 1 else a


@_microsoft("Gelu", kind="activation")
def gelu(xp: Any, x: Array) -> Array:
    """Return x times the normal distribution function of x."""
    return jax.nn.gelu(jnp.asarray(x), approximate=False)


@_microsoft("BiasGelu", kind="activation")
def bias_gelu(xp: Any, x: Array, bias: Array) -> Array:
    """Return the GELU of x + bias."""
    return gelu(xp, x + bias)


@_microsoft("FastGelu", kind="activation")
def fast_gelu(xp: Any, x: Array, bias: Array | None = None) -> Array:
    """Return the GELU of x + bias, approximated by tanh."""
    return jax.nn.gelu(jnp.asarray(x if bias is None else x + bias), approximate=True)


@_microsoft("QuickGelu", kind="activation")
def quick_gelu(xp: Any, x: Array, *, alpha: float = 1.702) -> Array:
    """Return x * sigmoid(alpha * x)."""
    return x * jax.nn.sigmoid(alpha * jnp.asarray(x))


@_microsoft("SkipLayerNormalization", kind="norm")
def skip_layer_normalization(
    xp: Any,
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Array, ...]:
    """Return LayerNormalization of a residual sum; the last output is the sum."""
    total = x + skip if bias is None else x + skip + bias
    normalised = layer_normalization(xp, total, gamma, beta, epsilon=epsilon, n_outputs=3)
    return (*normalised, total)


@_microsoft("SkipSimplifiedLayerNormalization", kind="norm")
def skip_rms_normalization(
    xp: Any,
    x: Array,
    skip: Array,
    gamma: Array,
    bias: Array | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Array, ...]:
    """Return RMSNormalization of a residual sum; the last output is the sum."""
    total = x + skip if bias is None else x + skip + bias
    y, inverse = rms_normalization(xp, total, gamma, epsilon=epsilon, n_outputs=2)
    return y, jnp.zeros_like(inverse), inverse, total


@_microsoft("Pad", static=(1,), kind="pad", linear=True)
def pad(
    xp: Any, x: Array, pads: Array, value: Array | None = None, *, mode: str = "constant"
) -> Array:
    """Pad as ONNX's own operator does."""
    rule = find_rule("", "Pad", 13)
    assert rule is not None, "registered with the shapes"
    return rule.fn(xp, x, pads, value, mode=mode)
