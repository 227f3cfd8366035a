"""Sums, maxima and their places."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from xaimaps_onnx.export import _namespace
from xaimaps_onnx.export._primitives.rows import primitive
from xaimaps_onnx.export._traced import Recorder

REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def _reduction(operator: str) -> Any:
    reduce = _namespace.reduction(operator)

    def row(write: Recorder, equation: Any, x: Any) -> Any:
        axes = equation.params["axes"]
        return reduce(write.constant(x), axis=axes) if axes else x

    return row


for _name, _operator in REDUCTIONS.items():
    primitive(_name)(_reduction(_operator))


@primitive("reduce_and", "reduce_or")
def reduce_logical(write: Recorder, equation: Any, x: Any) -> Any:
    """Whether all or any are true."""
    operator = "ReduceMin" if equation.primitive.name == "reduce_and" else "ReduceMax"
    numbers = write.emit("Cast", [x], to=TensorProto.INT32)
    found = _namespace.reduction(operator)(numbers, axis=equation.params["axes"])
    return write.emit("Cast", [found], to=TensorProto.BOOL)


@primitive("argmax", "argmin")
def arg(write: Recorder, equation: Any, x: Any) -> Any:
    """The first place of the maximum or minimum."""
    (axis,) = equation.params["axes"]
    operator = {"argmax": "ArgMax", "argmin": "ArgMin"}[equation.primitive.name]
    found = write.emit(operator, [x], axis=axis, keepdims=0)
    return _namespace.RULES["astype"](found, equation.outvars[0].aval.dtype)


@primitive("cumsum")
def cumsum(write: Recorder, equation: Any, x: Any) -> Any:
    """Sums of all elements so far."""
    axis, reverse = equation.params["axis"], equation.params["reverse"]
    return write.emit("CumSum", [x, np.asarray(axis, np.int64)], reverse=int(reverse))
