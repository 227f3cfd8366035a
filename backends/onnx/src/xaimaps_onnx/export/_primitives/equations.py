"""The equations that JAX records as nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xaimaps_onnx.export._primitives.rows import NoRowError, find_row
from xaimaps_onnx.export._traced import Recorder, traced_in

MOST_FOLDED = 2**16
"""The largest number of elements of a constant that is computed now instead of in the file."""


class Spread(NamedTuple):
    """A value that is to be repeated to a shape; elementwise operators do that themselves.

    Attributes:
        value: a value of the same rank with axes of size 1, or one number.
        shape: the shape.
    """

    value: Any
    shape: tuple[int, ...]


def written(write: Recorder, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any]) -> Any:
    """Write the equations of a jaxpr, and return its outputs.

    Args:
        write: records the nodes.
        jaxpr: the equations.
        constants: the values of its constants.
        inputs: those of its inputs, traced or not.

    Raises:
        NoRowError: nothing writes a primitive.
    """
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def value(variable: Any) -> Any:
        if hasattr(variable, "val"):
            return np.asarray(variable.val, variable.aval.dtype)
        return known[variable]

    for equation in jaxpr.eqns:
        made = _made(write, equation, list(map(value, equation.invars)))
        results = made if isinstance(made, tuple) and not isinstance(made, Spread) else (made,)
        known.update(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]


def whole(write: Recorder, one: Any) -> Any:
    """Return a value in its full shape."""
    if not isinstance(one, Spread):
        return one
    return write.emit("Expand", [one.value, write.sizes(one.shape)])


def _made(write: Recorder, equation: Any, inputs: list[Any]) -> Any:
    """Return the results of an equation: arrays if nothing is traced and they are small."""
    if next(traced_in(inputs), None) is None and _is_small(write, equation):
        return _computed(equation, [_broadcast(one) for one in inputs])
    row, kind = find_row(equation.primitive.name)
    if kind == "call":
        return row(write, equation, *inputs)
    if kind == "elementwise":
        return _elementwise(write, equation, row, [_narrow(one) for one in inputs])
    return row(write, equation, *(_checked(write, whole(write, one)) for one in inputs))


def _elementwise(write: Recorder, equation: Any, row: Any, inputs: list[Any]) -> Any:
    if next(traced_in(inputs), None) is None:
        made = _computed(equation, np.broadcast_arrays(*inputs))
    else:
        made = row(write, equation, *(_checked(write, one) for one in inputs))
    shape = equation.outvars[0].aval.shape
    return made if made.shape == shape else Spread(made, shape)


def _narrow(one: Any) -> Any:
    return one.value if isinstance(one, Spread) else one


def _broadcast(one: Any) -> Any:
    return np.broadcast_to(one.value, one.shape) if isinstance(one, Spread) else one


def _is_small(write: Recorder, equation: Any) -> bool:
    shapes = [variable.aval.shape for variable in equation.outvars]
    return all(
        math.prod(shape) <= MOST_FOLDED and not any(map(write.is_batch, shape)) for shape in shapes
    )


def _computed(equation: Any, inputs: Sequence[Any]) -> Any:
    """Return the results for arrays, computed now."""
    results = equation.primitive.bind(*inputs, **equation.params)
    several = equation.primitive.multiple_results
    return tuple(map(np.asarray, results)) if several else np.asarray(results)


def _checked(write: Recorder, one: Any) -> Any:
    """Refuse a constant with the shape of the batch, which may have another size in the file."""
    if isinstance(one, np.ndarray) and any(map(write.is_batch, one.shape)):
        raise NoRowError("it reads a constant that depends on the batch size")
    return one
