"""Functions of single elements."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from onnx import helper

from xaimaps_onnx.export._primitives.rows import NoRowError, primitive
from xaimaps_onnx.export._traced import Recorder, Traced

elementwise = functools.partial(primitive, kind="elementwise")

SAME = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "add_any": "Add",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "copy": "Identity",
    "copy_p": "Identity",
    "cos": "Cos",
    "cosh": "Cosh",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "optimization_barrier": "Identity",
    "pow": "Pow",
    "reduce_precision": "Identity",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "stop_gradient": "Identity",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
}
"""Primitives that are an operator of ONNX, with the same inputs."""


def _same(operator: str) -> Any:
    def row(write: Recorder, equation: Any, *inputs: Any) -> Any:
        return write.emit(operator, inputs)

    return row


for _name, _operator in SAME.items():
    elementwise(_name)(_same(_operator))


@elementwise("rsqrt")
def rsqrt(write: Recorder, equation: Any, x: Any) -> Any:
    """1 / sqrt(x)."""
    return write.emit("Reciprocal", [write.emit("Sqrt", [x])])


@elementwise("square")
def square(write: Recorder, equation: Any, x: Any) -> Any:
    """The square of x."""
    return write.emit("Mul", [x, x])


@elementwise("integer_pow")
def integer_pow(write: Recorder, equation: Any, x: Any) -> Any:
    """Multiply small powers out, as Pow is slow."""
    exponent = equation.params["y"]
    whole = x
    for _ in range(min(abs(exponent), 4) - 1):
        whole = write.emit("Mul", [whole, x])
    if not 1 <= abs(exponent) <= 4:
        return write.emit("Pow", [x, np.asarray(exponent, x.dtype)])
    return write.emit("Reciprocal", [whole]) if exponent < 0 else whole


@elementwise("log1p")
def log1p(write: Recorder, equation: Any, x: Any) -> Any:
    """log(1 + x)."""
    return write.emit("Log", [write.emit("Add", [x, np.ones((), x.dtype)])])


@elementwise("expm1")
def expm1(write: Recorder, equation: Any, x: Any) -> Any:
    """exp(x) - 1."""
    return write.emit("Sub", [write.emit("Exp", [x]), np.ones((), x.dtype)])


@elementwise("exp2")
def exp2(write: Recorder, equation: Any, x: Any) -> Any:
    """2 to the power of x."""
    return write.emit("Pow", [np.asarray(2, x.dtype), x])


@elementwise("cbrt")
def cbrt(write: Recorder, equation: Any, x: Any) -> Any:
    """The third root, with the sign of x."""
    root = write.emit("Pow", [write.emit("Abs", [x]), np.asarray(1 / 3, x.dtype)])
    return write.emit("Mul", [write.emit("Sign", [x]), root])


@elementwise("erfc")
def erfc(write: Recorder, equation: Any, x: Any) -> Any:
    """1 - erf(x)."""
    return write.emit("Sub", [np.ones((), x.dtype), write.emit("Erf", [x])])


@elementwise("round")
def round_(write: Recorder, equation: Any, x: Any) -> Any:
    """Round halves to even, as ONNX does."""
    if equation.params["rounding_method"].name != "TO_NEAREST_EVEN":
        raise NoRowError("ONNX does not round halves away from zero")
    return write.emit("Round", [x])


@elementwise("rem")
def rem(write: Recorder, equation: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x."""
    return write.emit("Mod", [x, y], fmod=1)


@elementwise("ne")
def ne(write: Recorder, equation: Any, x: Any, y: Any) -> Any:
    """Whether x and y differ."""
    return write.emit("Not", [write.emit("Equal", [x, y])])


@elementwise("is_finite")
def is_finite(write: Recorder, equation: Any, x: Any) -> Any:
    """Whether x is neither infinite nor NaN."""
    bad = [write.emit("IsNaN", [x]), write.emit("IsInf", [x])]
    return write.emit("Not", [write.emit("Or", bad)])


@elementwise("and", "or", "xor", "not")
def logical(write: Recorder, equation: Any, *inputs: Any) -> Any:
    """Combine booleans."""
    if inputs[0].dtype != np.bool_:
        raise NoRowError("the bits of integers are not combined")
    return write.emit(equation.primitive.name.capitalize(), inputs)


@elementwise("select_n")
def select_n(write: Recorder, equation: Any, which: Any, *cases: Any) -> Any:
    """Take each element from the case with its number."""
    if which.dtype == np.bool_:
        return _selected(write, which, cases[1], cases[0])
    chosen = cases[0]
    for number, case in enumerate(cases[1:], start=1):
        is_it = write.emit("Equal", [which, np.asarray(number, which.dtype)])
        chosen = _selected(write, is_it, case, chosen)
    return chosen


def _selected(write: Recorder, condition: Any, yes: Any, no: Any) -> Any:
    """Return `yes` or `no`; a gradient or 0 by a product, three times as fast in ONNX Runtime."""
    if _is_zero(yes) and _is_gradient(no):
        condition, yes, no = write.emit("Not", [condition]), no, yes
    if not (_is_zero(no) and _is_gradient(yes)):
        return write.emit("Where", [condition, yes, no])
    kind = helper.np_dtype_to_tensor_dtype(yes.dtype)
    found = write.emit("Mul", [yes, write.emit("Cast", [condition], to=kind)])
    found.is_gradient = True
    return found


def _is_gradient(x: Any) -> bool:
    return isinstance(x, Traced) and x.is_gradient


def _is_zero(x: Any) -> bool:
    return isinstance(x, np.ndarray) and not x.any()


@elementwise("clamp")
def clamp(write: Recorder, equation: Any, low: Any, x: Any, high: Any) -> Any:
    """Limit x to a range."""
    return write.emit("Min", [write.emit("Max", [x, low]), high])


@elementwise("convert_element_type")
def convert(write: Recorder, equation: Any, x: Any) -> Any:
    """Convert to another type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    return write.emit("Cast", [x], to=kind)
