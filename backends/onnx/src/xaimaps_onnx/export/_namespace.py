"""The array functions for traced arrays, with the names of the Array API standard."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from xaimaps.errors import MethodError
from xaimaps_onnx.export._traced import AXES_AS_INPUT, Recorder, Traced, ints, traced_in

Rule = Callable[..., Any]
EXPORTABLE = "grad_cam, saliency, integrated_gradients and occlusion"
"""The usual methods that can be exported, for messages."""


class Namespace:
    """Functions of traced arrays by `RULES`; of other arrays they are those of numpy.

    Args:
        recorder: of the file.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        plain = getattr(np, name)
        if not callable(plain) or isinstance(plain, type):
            return plain

        @functools.wraps(plain)
        def call(*args: Any, **options: Any) -> Any:
            if name in FILLED and any(map(self._recorder.is_batch, args[0])):
                return self._recorder.full(args[0], FILLED[name], options.get("dtype", np.float32))
            if next(traced_in(args), None) is None:
                return plain(*args, **options)
            if name not in RULES:
                raise MethodError(
                    f"the method cannot be exported to ONNX, as nothing writes its function "
                    f"{name!r}; {EXPORTABLE} can be exported"
                )
            return RULES[name](*args, **options)

        return call


FILLED = {"zeros": 0, "ones": 1}
"""Functions that make arrays of one number, whose shape may have the batch."""


def _elementwise(operator: str) -> Rule:
    def apply(x: Any, *others: Any) -> Traced:
        one = next(traced_in((x, *others)))
        values = [o if isinstance(o, Traced) else np.asarray(o, one.dtype) for o in (x, *others)]
        return one.recorder.emit(operator, values)

    return apply


def reduction(operator: str) -> Rule:
    """Return the function of an operator that summarises along axes."""

    def reduce(
        x: Traced, *, axis: int | Sequence[int] | None = None, keepdims: bool = False
    ) -> Traced:
        every = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        axes = [one % x.ndim for one in every]
        if operator == "ReduceSum" or x.recorder.opset >= AXES_AS_INPUT:
            return x.recorder.emit(operator, [x, ints(*axes)], keepdims=int(keepdims))
        return x.recorder.emit(operator, [x], axes=axes, keepdims=int(keepdims))

    return reduce


def reshape(x: Traced, shape: Sequence[int]) -> Traced:
    """Reshape; if one size is that of the batch, it follows from the others."""
    whole = tuple(math.prod(x.shape) // -math.prod(shape) if n == -1 else n for n in shape)
    batches = [x.recorder.is_batch(size) for size in whole]
    free = (-1 if is_batch else n for n, is_batch in zip(whole, batches, strict=True))
    sizes = ints(*free) if sum(batches) == 1 else x.recorder.sizes(whole)
    made = x.recorder.emit("Reshape", [x, sizes])
    return Traced(made.recorder, made.name, whole, made.dtype)


def _permute_dims(x: Traced, axes: Sequence[int]) -> Traced:
    if list(axes) == list(range(x.ndim)):
        return x
    return x.recorder.emit("Transpose", [x], perm=list(axes))


def _moveaxis(x: Traced, source: Any, destination: Any) -> Traced:
    order = np.moveaxis(np.empty(range(x.ndim)), source, destination).shape
    return _permute_dims(x, order)


def _matrix_transpose(x: Traced) -> Traced:
    return _moveaxis(x, -1, -2)


def _where(condition: Any, yes: Any, no: Any) -> Traced:
    recorder = next(traced_in((condition, yes, no))).recorder
    dtype = next(traced_in((yes, no))).dtype
    values = [one if isinstance(one, Traced) else np.asarray(one, dtype) for one in (yes, no)]
    return recorder.emit("Where", [condition, *values])


def _argmax(x: Traced, *, axis: int) -> Traced:
    return x.recorder.emit("ArgMax", [x], axis=axis, keepdims=0)


def _argsort(x: Traced, *, axis: int, stable: bool = True) -> Traced:
    """Return the order of the values; ONNX takes the first of equal ones first."""
    values, order = x.recorder.name(), x.recorder.name()
    count = x.recorder.constant(ints(x.shape[axis])).name
    node = helper.make_node(
        "TopK", [x.name, count], [values, order], f"{order}/node", axis=axis % x.ndim, largest=0
    )
    x.recorder.nodes.append(node)
    return Traced(x.recorder, order, x.shape, np.int64)


def _any(x: Traced) -> Traced:
    return RULES["max"](_astype(x, np.int32)) > 0  # type: ignore[no-any-return]


def _astype(x: Traced, dtype: Any) -> Traced:
    if x.dtype == dtype:
        return x
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return x.recorder.emit("Cast", [x], to=kind)


def _concat(parts: Sequence[Any], *, axis: int = 0) -> Any:
    filled = [part for part in parts if 0 not in part.shape]
    one = next(traced_in(filled))
    if len(filled) == 1:
        return one
    values = [p if isinstance(p, Traced) else np.asarray(p, one.dtype) for p in filled]
    return one.recorder.emit("Concat", values, axis=axis)


def _stack(parts: Sequence[Any], *, axis: int = 0) -> Traced:
    return _concat([_new_axis(part, axis) for part in parts], axis=axis)  # type: ignore[no-any-return]


def _new_axis(x: Any, axis: int) -> Any:
    at = axis % (len(x.shape) + 1)
    return x[(*(slice(None),) * at, None)]


def _take(x: Any, indices: Any, *, axis: int) -> Traced:
    recorder = next(traced_in((x, indices))).recorder
    return recorder.emit("Gather", [x, indices], axis=axis % len(x.shape))


def _take_along_axis(x: Any, indices: Traced, *, axis: int) -> Traced:
    recorder = next(traced_in((x, indices))).recorder
    return recorder.emit("GatherElements", [x, indices], axis=axis % len(x.shape))


def _broadcast_to(x: Traced, shape: Sequence[int]) -> Traced:
    return x.recorder.emit("Expand", [x, x.recorder.sizes(shape)])


def _flip(x: Traced, *, axis: int) -> Traced:
    return x[(*(slice(None),) * (axis % x.ndim), slice(None, None, -1))]


def _variance(x: Traced, *, axis: Any, keepdims: bool = False) -> Traced:
    apart = x - RULES["mean"](x, axis=axis, keepdims=True)
    return RULES["mean"](apart * apart, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]


def _filled(value: float) -> Rule:
    return lambda x: x.recorder.full(x.shape, value, x.dtype)


RULES: dict[str, Rule] = {
    "abs": _elementwise("Abs"),
    "sqrt": _elementwise("Sqrt"),
    "exp": _elementwise("Exp"),
    "log": _elementwise("Log"),
    "floor": _elementwise("Floor"),
    "round": _elementwise("Round"),
    "maximum": _elementwise("Max"),
    "minimum": _elementwise("Min"),
    "matmul": _elementwise("MatMul"),
    "sum": reduction("ReduceSum"),
    "mean": reduction("ReduceMean"),
    "max": reduction("ReduceMax"),
    "min": reduction("ReduceMin"),
    "var": _variance,
    "reshape": reshape,
    "permute_dims": _permute_dims,
    "moveaxis": _moveaxis,
    "matrix_transpose": _matrix_transpose,
    "concat": _concat,
    "stack": _stack,
    "take": _take,
    "take_along_axis": _take_along_axis,
    "broadcast_to": _broadcast_to,
    "argsort": _argsort,
    "flip": _flip,
    "where": _where,
    "argmax": _argmax,
    "any": _any,
    "astype": _astype,
    "zeros_like": _filled(0),
    "ones_like": _filled(1),
}
"""The functions by name; a method that needs another one is refused."""
