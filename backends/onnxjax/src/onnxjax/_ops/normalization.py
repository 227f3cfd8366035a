"""Normalisations in inference mode; half-precision values are summed in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxjax._jax import jnp
from onnxjax._ops.channels import elementwise
from onnxjax._ops.windows import Window, spatial_rank
from onnxjax._statistics import statistic
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import op

Array = Any


@op("BatchNormalization", kind="batch_norm", linear=True, planar=True)
def batch_normalization_1(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    consumed_inputs: Sequence[int] = (),
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
    n_outputs: int = 1,
) -> Array:
    """Normalise; `is_test` is ignored, because exporters left it 0 in inference."""
    _refuse_training(n_outputs > 1)
    return _standardise(xp, x, scale, bias, mean, var, epsilon, spatial)


@op("BatchNormalization", since=7)
def batch_normalization_7(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    n_outputs: int = 1,
) -> Array:
    """Normalise; more than one output means training, which is refused."""
    _refuse_training(n_outputs > 1)
    return _standardise(xp, x, scale, bias, mean, var, epsilon, spatial)


@op("BatchNormalization", since=14)
def batch_normalization_14(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Array:
    """Return (x - mean) * scale / sqrt(var + epsilon) + bias, with the stored statistics."""
    _refuse_training(bool(training_mode))
    return _standardise(xp, x, scale, bias, mean, var, epsilon)


def _refuse_training(training: bool) -> None:
    if training:
        raise UnsupportedModelError(
            "BatchNormalization in training mode has no fixed statistics; export the model for "
            "inference"
        )


def _standardise(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    var: Array,
    epsilon: float,
    spatial: int = 1,
) -> Array:
    """Normalise with statistics of each channel, or of each element if `spatial` is 0."""
    factor = scale / xp.sqrt(var + xp.asarray(epsilon, dtype=var.dtype))
    shape = (1, -1, *(1,) * spatial_rank(x)) if spatial else (1, *x.shape[1:])
    offset = (bias - mean * factor).reshape(shape)
    y = elementwise(lambda x, a, b: x * a + b)(x, factor.reshape(shape), offset)
    return y.astype(x.dtype)


@op("InstanceNormalization", kind="norm", planar=True)
def instance_normalization(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    *,
    consumed_inputs: Sequence[int] = (),
    epsilon: float = 1e-5,
) -> Array:
    """Normalise each channel of each image to mean 0 and variance 1, and scale it."""
    shape = (-1, *(1,) * spatial_rank(x))
    wide = _wide(x)
    y, _, _ = _normalise(wide, tuple(range(2, x.ndim)), epsilon)
    scale, bias = (jnp.reshape(a, shape).astype(wide.dtype) for a in (scale, bias))
    return (y * scale + bias).astype(x.dtype)


def _wide(x: Array) -> Array:
    """Convert to float32, as `stash_type` 1 requires; float64 stays."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _normalise(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """Normalise over `axes`; return also the mean and the inverse standard deviation."""
    mean = jnp.mean(x, axis=axes, keepdims=True)
    centred = x - mean
    variance = jnp.mean(centred * centred, axis=axes, keepdims=True)
    inverse = statistic(1 / jnp.sqrt(variance + epsilon))
    return centred * inverse, mean, inverse


@op("LayerNormalization", kind="norm")
def layer_normalization(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    n_outputs: int = 1,
) -> Array | tuple[Array, ...]:
    """Normalise over the axes from `axis` on and scale; return also mean and 1 / deviation.

    ONNX Runtime writes this operator in opsets before 17, too.
    """
    wide = _stash(x, stash_type)
    y, mean, inverse = _normalise(wide, _from(x, axis), epsilon)
    y = y.astype(x.dtype) * scale
    results = (y if bias is None else y + bias, mean, inverse)
    return results[:n_outputs]


def _from(x: Array, axis: int) -> tuple[int, ...]:
    return tuple(range(axis % x.ndim, x.ndim))


def _stash(x: Array, stash_type: int) -> Array:
    """Convert to the type of the statistics: float32 for 1, else the input's own type."""
    return _wide(x) if stash_type == 1 else jnp.asarray(x)


@op("RMSNormalization", kind="norm")
@op("SimplifiedLayerNormalization", kind="norm")
def rms_normalization(
    xp: Any,
    x: Array,
    scale: Array,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    n_outputs: int = 1,
) -> Array | tuple[Array, ...]:
    """Normalise the axes from `axis` on to a mean square of 1, and scale."""
    wide = _stash(x, stash_type)
    square = jnp.mean(wide * wide, axis=_from(x, axis), keepdims=True)
    inverse = statistic(1 / jnp.sqrt(square + epsilon))
    return ((wide * inverse).astype(x.dtype) * scale, inverse)[:n_outputs]


@op("GroupNormalization", since=18, kind="norm", planar=True)
def group_normalization_18(
    xp: Any, x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5, num_groups: int
) -> Array:
    """Compute `group_normalization_21` with one scale for each group."""
    each = x.shape[1] // num_groups
    scale, bias = jnp.repeat(jnp.asarray(scale), each), jnp.repeat(jnp.asarray(bias), each)
    return group_normalization_21(xp, x, scale, bias, epsilon=epsilon, num_groups=num_groups)


@op("GroupNormalization", since=21)
def group_normalization_21(
    xp: Any,
    x: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Array:
    """Normalise groups of channels to mean 0 and variance 1; scale each channel."""
    grouped = _stash(x, stash_type).reshape(x.shape[0], num_groups, -1)
    y, _, _ = _normalise(grouped, (2,), epsilon)
    shape = (-1, *(1,) * spatial_rank(x))
    return y.reshape(x.shape).astype(x.dtype) * scale.reshape(shape) + bias.reshape(shape)


@op("MeanVarianceNormalization", since=9, kind="norm")
def mean_variance_normalization(xp: Any, x: Array, *, axes: Sequence[int] = (0, 2, 3)) -> Array:
    """Normalise over `axes` to mean 0 and variance 1."""
    centred = x - xp.mean(x, axis=tuple(axes), keepdims=True)
    variance = xp.mean(centred * centred, axis=tuple(axes), keepdims=True)
    return centred / statistic(xp.sqrt(variance) + xp.asarray(1e-9, dtype=x.dtype))


@op("LpNormalization", kind="norm")
def lp_normalization(xp: Any, x: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Divide by the 1- or 2-norm along an axis; 0 stays 0."""
    if p == 1:
        norm = statistic(xp.sum(xp.abs(x), axis=axis, keepdims=True))
        return xp.where(norm > 0, x / xp.where(norm > 0, norm, 1), xp.zeros_like(x))
    square = statistic(xp.sum(x * x, axis=axis, keepdims=True))
    return xp.where(square > 0, x / xp.sqrt(xp.where(square > 0, square, 1)), xp.zeros_like(x))


@op("LRN", kind="norm", planar=True)
def local_response_normalization(
    xp: Any, x: Array, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
) -> Array:
    """Divide by a power of the sum of squares over `size` neighbouring channels."""
    x = jnp.asarray(x)
    before, after = (min(n, x.shape[1] - 1) for n in ((size - 1) // 2, size // 2))
    channels = Window(x.shape[1], before + after + 1, 1, 1, before, after, x.shape[1])
    squares = sum(channels.parts(x * x, 1, 0))
    return x / statistic((bias + alpha / size * squares) ** beta)
