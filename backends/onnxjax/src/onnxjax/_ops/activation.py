"""Activation functions, with the derivatives of PyTorch where a function has a kink.

The derivative at a kink is 0 (ReLU, Clip, HardSigmoid, Shrink) or that of the negative side
(leaky and exponential rectifiers). NaN stays NaN.
"""

from __future__ import annotations

import math
from typing import Any

from onnxjax._jax import custom_jvp, jax, jnp
from onnxjax.registry import op

Array = Any


@op("Relu", elementwise=True, kind="relu", homogeneous=True)
def relu(xp: Any, x: Array) -> Array:
    """Return max(x, 0), with slope 0 at 0."""
    return xp.where(x <= 0, xp.zeros_like(x), x)


@op("LeakyRelu", elementwise=True, kind="relu", homogeneous=True)
def leaky_relu(xp: Any, x: Array, *, alpha: float = 0.01) -> Array:
    """Return x, or alpha * x where x is not positive."""
    return xp.where(x > 0, x, alpha * x)


@op("PRelu", since=7, elementwise=True, kind="relu", homogeneous=True)
def prelu(xp: Any, x: Array, slope: Array) -> Array:
    """Return x, or slope * x where x is not positive."""
    return xp.where(x > 0, x, slope * x)


@op("ThresholdedRelu", elementwise=True, kind="relu")
def thresholded_relu(xp: Any, x: Array, *, alpha: float = 1.0) -> Array:
    """Return x above alpha, else 0."""
    return xp.where(x <= alpha, xp.zeros_like(x), x)


@op("Clip", elementwise=True, kind="relu")
def clip_6(xp: Any, x: Array, *, min: float | None = None, max: float | None = None) -> Array:
    """Bound x, with the bounds as attributes."""
    return clip_11(xp, x, min, max)


@op("Clip", since=11, elementwise=True)
def clip_11(xp: Any, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Bound x, with slope 0 at and beyond the bounds."""
    if low is not None:
        low = xp.asarray(low, dtype=x.dtype)
        x = xp.where(x <= low, low, x)
    if high is not None:
        high = xp.asarray(high, dtype=x.dtype)
        x = xp.where(x >= high, high, x)
    return x


@op("HardSigmoid", elementwise=True, kind="activation")
def hard_sigmoid(xp: Any, x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """Return alpha * x + beta, bounded to 0 and 1."""
    return clip_11(xp, alpha * x + beta, 0.0, 1.0)


@op("HardSwish", elementwise=True, kind="activation")
def hard_swish(xp: Any, x: Array) -> Array:
    """Return x times its hard sigmoid, with the derivatives of PyTorch."""
    return _hard_swish(jnp.asarray(x))


def _hard_swish_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Return the value and the tangent; the backward pass stores x only, not every step."""
    (x,), (dx,) = primals, tangents
    slope = jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, x / 3 + 0.5))
    return _hard_swish(x), slope * dx


@custom_jvp(_hard_swish_jvp)
def _hard_swish(x: Array) -> Array:
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, x, x * (x + 3) / 6))


@op("Elu", elementwise=True, kind="relu")
def elu(xp: Any, x: Array, *, alpha: float = 1.0) -> Array:
    """Return x, or alpha * (exp(x) - 1) where x is not positive."""
    return xp.where(x > 0, x, alpha * xp.expm1(_unless_positive(xp, x)))


@op("Celu", elementwise=True, kind="relu")
def celu(xp: Any, x: Array, *, alpha: float = 1.0) -> Array:
    """Return x, or alpha * (exp(x / alpha) - 1) where x is not positive."""
    return xp.where(x > 0, x, alpha * xp.expm1(_unless_positive(xp, x) / alpha))


@op("Selu", since=6, elementwise=True, kind="relu")
def selu(
    xp: Any, x: Array, *, alpha: float = 1.6732631921768188, gamma: float = 1.0507010221481323
) -> Array:
    """Return the ELU times gamma."""
    return gamma * elu(xp, x, alpha=alpha)


def _unless_positive(xp: Any, x: Array) -> Array:
    """Return min(x, 0), because the exponential of a large x would make the slope NaN."""
    return xp.where(x > 0, xp.zeros_like(x), x)


@op("Shrink", elementwise=True, kind="activation")
def shrink(xp: Any, x: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Array:
    """Return x moved by `bias` towards 0, and 0 between -lambd and lambd."""
    offset = xp.asarray(bias, dtype=x.dtype)
    moved = xp.where(x < 0, x + offset, x - offset)
    return xp.where((x < -lambd) | (x > lambd), moved, xp.zeros_like(x))


@op("Sigmoid", elementwise=True, kind="sigmoid")
def sigmoid(xp: Any, x: Array) -> Array:
    """Return 1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(jnp.asarray(x))


@op("Swish", elementwise=True, kind="activation")
def swish(xp: Any, x: Array, *, alpha: float = 1.0) -> Array:
    """Return x * sigmoid(alpha * x)."""
    return x * jax.nn.sigmoid(alpha * jnp.asarray(x))


@op("Softplus", elementwise=True, kind="activation")
def softplus(xp: Any, x: Array) -> Array:
    """Return log(1 + exp(x))."""
    return jax.nn.softplus(jnp.asarray(x))


@op("Softsign", elementwise=True, kind="activation")
def softsign(xp: Any, x: Array) -> Array:
    """Return x / (1 + |x|)."""
    return x / (1 + xp.abs(x))


@op("Mish", elementwise=True, kind="activation")
def mish(xp: Any, x: Array) -> Array:
    """Return x * tanh(softplus(x))."""
    return x * jnp.tanh(jax.nn.softplus(jnp.asarray(x)))


@op("Gelu", elementwise=True, kind="activation")
def gelu(xp: Any, x: Array, *, approximate: str = "none") -> Array:
    """Return x times the normal distribution function of x, or its approximation by tanh."""
    return jax.nn.gelu(jnp.asarray(x), approximate=approximate == "tanh")


@op("Softmax", since=13, kind="softmax")
def softmax_13(xp: Any, x: Array, *, axis: int = -1) -> Array:
    """Return exp(x) / sum(exp(x)) along one axis."""
    return jax.nn.softmax(jnp.asarray(x), axis=axis)


@op("LogSoftmax", since=13, kind="softmax")
def log_softmax_13(xp: Any, x: Array, *, axis: int = -1) -> Array:
    """Return the logarithm of the softmax."""
    return jax.nn.log_softmax(jnp.asarray(x), axis=axis)


@op("Hardmax", since=13, differentiable=False)
def hardmax_13(xp: Any, x: Array, *, axis: int = -1) -> Array:
    """Return 1 at the first largest value along one axis, else 0."""
    return jax.nn.one_hot(jnp.argmax(x, axis), x.shape[axis], dtype=x.dtype, axis=axis)


@op("Softmax")
def softmax_1(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """Return the softmax over all axes from `axis` on."""
    return _over_flattened(softmax_13, x, axis)


@op("LogSoftmax")
def log_softmax_1(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """Return the logarithm of the softmax over all axes from `axis` on."""
    return _over_flattened(log_softmax_13, x, axis)


@op("Hardmax")
def hardmax_1(xp: Any, x: Array, *, axis: int = 1) -> Array:
    """Return 1 at the first largest value over all axes from `axis` on, else 0."""
    return _over_flattened(hardmax_13, x, axis)


def _over_flattened(rule: Any, x: Array, axis: int) -> Array:
    """Apply a rule to x as a matrix, as these operators were defined before opset 13."""
    axis = axis + x.ndim if axis < 0 else axis
    matrix = jnp.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return rule(jnp, matrix, axis=-1).reshape(x.shape)
