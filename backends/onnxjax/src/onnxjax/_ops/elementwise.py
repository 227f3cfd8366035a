"""Elementwise operators, with numpy's broadcasting."""

from __future__ import annotations

import functools
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from onnxjax._jax import jnp, special
from onnxjax._ops.common import cast
from onnxjax.errors import UnsupportedModelError
from onnxjax.registry import RuleFunction, Traits, op

Array = Any

_ARITHMETIC: Traits = {"kind": "arithmetic"}
_STEP: Traits = {"kind": "arithmetic", "differentiable": False}
_COMPARISON: Traits = {"kind": "compare", "differentiable": False}

UNARY: dict[str, tuple[str, Traits]] = {
    "Acos": ("arccos", _ARITHMETIC),
    "Acosh": ("arccosh", _ARITHMETIC),
    "Asin": ("arcsin", _ARITHMETIC),
    "Asinh": ("arcsinh", _ARITHMETIC),
    "Atan": ("arctan", _ARITHMETIC),
    "Atanh": ("arctanh", _ARITHMETIC),
    "BitwiseNot": ("invert", _COMPARISON),
    "Ceil": ("ceil", _STEP),
    "Cos": ("cos", _ARITHMETIC),
    "Cosh": ("cosh", _ARITHMETIC),
    "Exp": ("exp", {"kind": "exp"}),
    "Floor": ("floor", _STEP),
    "IsNaN": ("isnan", _COMPARISON),
    "Log": ("log", _ARITHMETIC),
    "Neg": ("negative", {"kind": "arithmetic", "homogeneous": True}),
    "Not": ("logical_not", _COMPARISON),
    "Round": ("round", _STEP),
    "Sign": ("sign", _STEP),
    "Sin": ("sin", _ARITHMETIC),
    "Sinh": ("sinh", _ARITHMETIC),
    "Sqrt": ("sqrt", _ARITHMETIC),
    "Tan": ("tan", _ARITHMETIC),
    "Tanh": ("tanh", {"kind": "activation"}),
}
"""The unary functions that numpy, JAX and ONNX define alike, by their numpy names."""

BINARY: dict[str, tuple[str, Traits]] = {
    "Add": ("add", {"kind": "sum", "linear": True, "integer": ("com.microsoft", "QLinearAdd")}),
    "And": ("logical_and", _COMPARISON),
    "BitwiseAnd": ("bitwise_and", _COMPARISON),
    "BitwiseOr": ("bitwise_or", _COMPARISON),
    "BitwiseXor": ("bitwise_xor", _COMPARISON),
    "Equal": ("equal", _COMPARISON),
    "Greater": ("greater", _COMPARISON),
    "GreaterOrEqual": ("greater_equal", _COMPARISON),
    "Less": ("less", _COMPARISON),
    "LessOrEqual": ("less_equal", _COMPARISON),
    "Mul": (
        "multiply",
        {"kind": "product", "linear": True, "integer": ("com.microsoft", "QLinearMul")},
    ),
    "Or": ("logical_or", _COMPARISON),
    "Sub": ("subtract", {"kind": "sum", "linear": True}),
    "Xor": ("logical_xor", _COMPARISON),
}
"""The binary functions that numpy, JAX and ONNX define alike, by their numpy names."""


def _named(function: str) -> RuleFunction:
    """Return a rule that is one function of numpy and of JAX."""

    def rule(xp: Any, *inputs: Array) -> Array:
        return getattr(xp, function)(*inputs)

    return rule


for _operator, (_function, _traits) in UNARY.items():
    op(_operator, elementwise=True, **_traits)(_named(_function))
for _operator, (_function, _traits) in BINARY.items():
    op(_operator, since=7, elementwise=True, **_traits)(_named(_function))


@op("Abs", elementwise=True, kind="arithmetic", homogeneous=True)
def absolute(xp: Any, x: Array) -> Array:
    """Return |x|, with slope 0 at 0, where JAX's own has 1."""
    return x * xp.sign(x)


@op("Div", since=7, elementwise=True, kind="quotient", linear=True)
def div(xp: Any, a: Array, b: Array) -> Array:
    """Return the quotient, for integers truncated towards zero."""
    if a.dtype.kind not in "iu":
        return xp.divide(a, b)
    quotient = xp.floor_divide(a, b)
    inexact = (quotient * b != a) & ((a < 0) != (b < 0))
    return quotient + inexact.astype(quotient.dtype)


@op("Mod", elementwise=True, kind="arithmetic")
def mod(xp: Any, a: Array, b: Array, *, fmod: int = 0) -> Array:
    """Return the remainder with the sign of b, or with that of a as in C's `fmod`."""
    return xp.fmod(a, b) if fmod else xp.mod(a, b)


@op("Pow", since=7, elementwise=True, kind="arithmetic")
def power(xp: Any, x: Array, y: Array) -> Array:
    """Return x ** y, in the type of x."""
    if isinstance(y, np.ndarray | np.generic) and y.size == 1 and y.ndim <= x.ndim:
        exponent = float(np.asarray(y).item())
        if x.dtype.kind == "f" and exponent.is_integer() and abs(exponent) <= 64:
            return x ** int(exponent)
    if x.dtype.kind in "iu" and y.dtype.kind not in "iu":
        return cast(xp, xp.power(cast(xp, x, y.dtype), y), x.dtype)
    return cast(xp, xp.power(x, y), x.dtype)


@op("Reciprocal", elementwise=True, kind="arithmetic")
def reciprocal(xp: Any, x: Array) -> Array:
    """Return 1 / x."""
    return 1 / x


@op("Erf", elementwise=True, kind="arithmetic")
def erf(xp: Any, x: Array) -> Array:
    """Return the error function of x."""
    return special.erf(jnp.asarray(x))


@op("IsInf", elementwise=True, kind="compare", differentiable=False)
def is_inf(xp: Any, x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    """Return which elements are infinite, with the requested signs."""
    wanted = (x < 0) if detect_negative else xp.zeros(x.shape, bool)
    wanted = wanted | (x > 0) if detect_positive else wanted
    return xp.isinf(x) & wanted


@op("BitShift", elementwise=True, kind="compare", differentiable=False)
def bit_shift(xp: Any, x: Array, y: Array, *, direction: str) -> Array:
    """Shift the bits by y."""
    return xp.left_shift(x, y) if direction == "LEFT" else xp.right_shift(x, y)


@op("Max", elementwise=True, kind="select")
def max_(xp: Any, *terms: Array) -> Array:
    """Return the elementwise maximum; two equal values share the gradient."""
    return functools.reduce(xp.maximum, terms)


@op("Min", elementwise=True, kind="select")
def min_(xp: Any, *terms: Array) -> Array:
    """Return the elementwise minimum; two equal values share the gradient."""
    return functools.reduce(xp.minimum, terms)


@op("Sum", elementwise=True, kind="sum", linear=True)
def sum_(xp: Any, *terms: Array) -> Array:
    """Return the sum of any number of tensors."""
    return functools.reduce(xp.add, terms)


@op("Mean", elementwise=True, kind="sum", linear=True)
def mean(xp: Any, *terms: Array) -> Array:
    """Return the mean of any number of tensors."""
    return functools.reduce(xp.add, terms) / len(terms)


@op("Identity", elementwise=True, kind="view", homogeneous=True)
def identity(xp: Any, x: Array) -> Array:
    """Return the input."""
    return x


@op("Dropout", since=12, static=[2], kind="view", homogeneous=True)
def dropout(
    xp: Any,
    x: Array,
    ratio: Array | None = None,
    training_mode: Array | None = None,
    *,
    seed: int = 0,
    n_outputs: int,
) -> tuple[Array, ...]:
    """Return the input, and a mask that keeps every element."""
    if training_mode is not None and bool(training_mode):
        raise UnsupportedModelError(
            "Dropout in training mode is random; export the model for inference"
        )
    return (x, np.ones(x.shape, bool))[:n_outputs]


@op("Cast", since=6, elementwise=True, kind="view", homogeneous=True)
def cast_(xp: Any, x: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    """Convert to the ONNX type number `to`."""
    if to == onnx.TensorProto.STRING or x.dtype.kind in "OSU":
        raise UnsupportedModelError("Cast from or to strings has no numbers; export without it")
    if to == onnx.TensorProto.FLOAT8E8M0 and round_mode != "up":
        raise UnsupportedModelError(f"Cast knows no round_mode {round_mode!r}; use 'up'")
    return convert(xp, x, onnx.helper.tensor_dtype_to_np_dtype(to), saturate=bool(saturate))


@op("CastLike", kind="view", homogeneous=True)
def cast_like(
    xp: Any, x: Array, like: Array, *, saturate: int = 1, round_mode: str = "up"
) -> Array:
    """Convert to the type of another tensor."""
    return convert(xp, x, like.dtype, saturate=bool(saturate))


def convert(xp: Any, x: Array, dtype: np.dtype[Any], *, saturate: bool = True) -> Array:
    """Convert x; with `saturate`, a value too large for an 8-bit float becomes the largest one."""
    if saturate and dtype.name.startswith("float8") and x.dtype.kind not in "iub":
        largest = float(ml_dtypes.finfo(dtype).max)
        x = xp.where(xp.isnan(x), x, xp.clip(cast(xp, x, np.float32), -largest, largest))
    return cast(xp, x, dtype)
