"""The equations that JAX records as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xaimaps_onnx.export._primitives.rows import NoRowError, find_row
from xaimaps_onnx.export._traced import Recorder, traced_in

MOST_FOLDED = 2**16
"""The largest number of elements of a constant that is computed now instead of in the file."""


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
        results = made if isinstance(made, tuple) else (made,)
        known.update(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]


def _made(write: Recorder, equation: Any, inputs: list[Any]) -> Any:
    if next(traced_in(inputs), None) is None and _is_small(write, equation):
        results = equation.primitive.bind(*inputs, **equation.params)
        several = equation.primitive.multiple_results
        return tuple(map(np.asarray, results)) if several else np.asarray(results)
    if any(map(write.is_batch, (n for one in inputs if isinstance(one, np.ndarray) for n in one.shape))):
        raise NoRowError("it reads a constant that depends on the batch size")
    return find_row(equation.primitive.name)(write, equation, *inputs)


def _is_small(write: Recorder, equation: Any) -> bool:
    shapes = [variable.aval.shape for variable in equation.outvars]
    return all(
        np.prod(shape) <= MOST_FOLDED and not any(map(write.is_batch, shape)) for shape in shapes
    )
