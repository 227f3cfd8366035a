"""Functions of single elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from xaimaps_onnx.export._primitives.rows import NoRowError, primitive
from xaimaps_onnx.export._traced import Recorder

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
    primitive(_name)(_same(_operator))


@primitive("rsqrt")
def rsqrt(write: Recorder, equation: Any, x: Any) -> Any:
    """1 / sqrt(x)."""
    return write.emit("Reciprocal", [write.emit("Sqrt", [x])])


@primitive("square")
def square(write: Recorder, equation: Any, x: Any) -> Any:
    """x * x."""
    return write.emit("Mul", [x, x])


@primitive("integer_pow")
def integer_pow(write: Recorder, equation: Any, x: Any) -> Any:
    """Multiply small powers out, as Pow is slow."""
    exponent = equation.params["y"]
    whole = x
    for _ in range(min(abs(exponent), 4) - 1):
        whole = write.emit("Mul", [whole, x])
    if not 1 <= abs(exponent) <= 4:
        return write.emit("Pow", [x, np.asarray(exponent, x.dtype)])
    return write.emit("Reciprocal", [whole]) if exponent < 0 else whole


@primitive("log1p")
def log1p(write: Recorder, equation: Any, x: Any) -> Any:
    """log(1 + x)."""
    return write.emit("Log", [write.emit("Add", [x, np.ones((), x.dtype)])])


@primitive("expm1")
def expm1(write: Recorder, equation: Any, x: Any) -> Any:
    """exp(x) - 1."""
    return write.emit("Sub", [write.emit("Exp", [x]), np.ones((), x.dtype)])


@primitive("exp2")
def exp2(write: Recorder, equation: Any, x: Any) -> Any:
    """2 to the power of x."""
    return write.emit("Pow", [np.asarray(2, x.dtype), x])


@primitive("cbrt")
def cbrt(write: Recorder, equation: Any, x: Any) -> Any:
    """The third root, with the sign of x."""
    root = write.emit("Pow", [write.emit("Abs", [x]), np.asarray(1 / 3, x.dtype)])
    return write.emit("Mul", [write.emit("Sign", [x]), root])


@primitive("erfc")
def erfc(write: Recorder, equation: Any, x: Any) -> Any:
    """1 - erf(x)."""
    return write.emit("Sub", [np.ones((), x.dtype), write.emit("Erf", [x])])


@primitive("round")
def round_(write: Recorder, equation: Any, x: Any) -> Any:
    """Round halves to even, as ONNX does."""
    if equation.params["rounding_method"].name != "TO_NEAREST_EVEN":
        raise NoRowError("ONNX does not round halves away from zero")
    return write.emit("Round", [x])


@primitive("rem")
def rem(write: Recorder, equation: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x."""
    return write.emit("Mod", [x, y], fmod=1)


@primitive("ne")
def ne(write: Recorder, equation: Any, x: Any, y: Any) -> Any:
    """Whether x and y differ."""
    return write.emit("Not", [write.emit("Equal", [x, y])])


@primitive("is_finite")
def is_finite(write: Recorder, equation: Any, x: Any) -> Any:
    """Whether x is neither infinite nor NaN."""
    bad = [write.emit("IsNaN", [x]), write.emit("IsInf", [x])]
    return write.emit("Not", [write.emit("Or", bad)])


@primitive("and", "or", "xor", "not")
def logical(write: Recorder, equation: Any, *inputs: Any) -> Any:
    """Combine booleans."""
    if inputs[0].dtype != np.bool_:
        raise NoRowError("the bits of integers are not combined")
    return write.emit(equation.primitive.name.capitalize(), inputs)


@primitive("select_n")
def select_n(write: Recorder, equation: Any, which: Any, *cases: Any) -> Any:
    """Take each element from the case with its number."""
    if which.dtype == np.bool_:
        return write.emit("Where", [which, cases[1], cases[0]])
    chosen = cases[0]
    for number, case in enumerate(cases[1:], start=1):
        is_it = write.emit("Equal", [which, np.asarray(number, which.dtype)])
        chosen = write.emit("Where", [is_it, case, chosen])
    return chosen


@primitive("clamp")
def clamp(write: Recorder, equation: Any, low: Any, x: Any, high: Any) -> Any:
    """Limit x to a range."""
    return write.emit("Min", [write.emit("Max", [x, low]), high])


@primitive("convert_element_type")
def convert(write: Recorder, equation: Any, x: Any) -> Any:
    """Convert to another type."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"]))
    return write.emit("Cast", [x], to=kind)
