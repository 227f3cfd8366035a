"""The array functions for traced arrays, with the names of the Array API standard."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from xaimaps.errors import MethodError
from xaimaps_onnx.export._traced import AXES_AS_INPUT, Traced, example, ints, traced_in

Rule = Callable[..., Any]
EXPORTABLE = "cam, grad_cam and eigen_cam"
"""The usual methods that can be exported, for messages."""


class Namespace:
    """Functions of traced arrays by `RULES`; of other arrays they are those of numpy."""

    def __getattr__(self, name: str) -> Any:
        plain = getattr(np, name)
        if not callable(plain) or isinstance(plain, type):
            return plain

        @functools.wraps(plain)
        def call(*args: Any, **options: Any) -> Any:
            if next(traced_in(args), None) is None:
                return plain(*args, **options)
            if name not in RULES:
                raise MethodError(
                    f"the method cannot be exported to ONNX, as nothing writes its function "
                    f"{name!r}; {EXPORTABLE} can be exported"
                )
            return RULES[name](*args, **options)

        return call


def _elementwise(operator: str, fn: Callable[..., Any]) -> Rule:
    def apply(x: Traced, *others: Any) -> Traced:
        values = [x, *(o if isinstance(o, Traced) else np.asarray(o, x.dtype) for o in others)]
        return x.recorder.emit(operator, values, fn(*map(example, values)))

    return apply


def _reduction(operator: str, fn: Callable[..., Any]) -> Rule:
    def reduce(x: Traced, *, axis: int | Sequence[int], keepdims: bool = False) -> Traced:
        axes = [axis] if isinstance(axis, int) else list(axis)
        value = fn(x.value, axis=tuple(axes), keepdims=keepdims)
        if operator == "ReduceSum" or x.recorder.opset >= AXES_AS_INPUT:
            return x.recorder.emit(operator, [x, ints(*axes)], value, keepdims=int(keepdims))
        return x.recorder.emit(operator, [x], value, axes=axes, keepdims=int(keepdims))

    return reduce


def _reshape(x: Traced, shape: Sequence[int]) -> Traced:
    """Reshape; a size that stays at its axis is copied, so that the batch may have any size."""
    pairs = zip(shape, [*x.shape, *(None,) * len(shape)], strict=False)
    sizes = ints(*(0 if size == own and size else size for size, own in pairs))
    return x.recorder.emit("Reshape", [x, sizes], np.reshape(x.value, shape))


def _permute_dims(x: Traced, axes: Sequence[int]) -> Traced:
    return x.recorder.emit("Transpose", [x], np.transpose(x.value, axes), perm=list(axes))


def _moveaxis(x: Traced, source: int, destination: int) -> Traced:
    order = np.moveaxis(np.empty(range(len(x.shape))), source, destination).shape
    return _permute_dims(x, order)


def _matrix_transpose(x: Traced) -> Traced:
    return _moveaxis(x, -1, -2)


def _matmul(a: Any, b: Any) -> Traced:
    recorder = next(traced_in((a, b))).recorder
    return recorder.emit("MatMul", [a, b], np.matmul(example(a), example(b)))


def _where(condition: Any, yes: Any, no: Any) -> Traced:
    recorder = next(traced_in((condition, yes, no))).recorder
    return recorder.emit(
        "Where", [condition, yes, no], np.where(*map(example, (condition, yes, no)))
    )


def _argmax(x: Traced, *, axis: int) -> Traced:
    return x.recorder.emit("ArgMax", [x], np.argmax(x.value, axis=axis), axis=axis, keepdims=0)


def _astype(x: Traced, dtype: Any) -> Traced:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return x.recorder.emit("Cast", [x], x.value.astype(dtype), to=kind)


def _zero(x: Traced) -> Any:
    """Return one zero, as every use of it is together with a value of the shape of `x`."""
    return np.zeros((), x.dtype)


def _one(x: Traced) -> Any:
    return np.ones((), x.dtype)


RULES: dict[str, Rule] = {
    "abs": _elementwise("Abs", np.abs),
    "sqrt": _elementwise("Sqrt", np.sqrt),
    "round": _elementwise("Round", np.round),
    "maximum": _elementwise("Max", np.maximum),
    "minimum": _elementwise("Min", np.minimum),
    "sum": _reduction("ReduceSum", np.sum),
    "mean": _reduction("ReduceMean", np.mean),
    "max": _reduction("ReduceMax", np.max),
    "min": _reduction("ReduceMin", np.min),
    "reshape": _reshape,
    "permute_dims": _permute_dims,
    "moveaxis": _moveaxis,
    "matrix_transpose": _matrix_transpose,
    "matmul": _matmul,
    "where": _where,
    "argmax": _argmax,
    "astype": _astype,
    "zeros_like": _zero,
    "ones_like": _one,
}
"""The functions by name; a method that needs another one is refused."""
