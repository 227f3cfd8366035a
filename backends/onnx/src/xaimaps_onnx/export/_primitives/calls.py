"""Functions inside of functions."""

from __future__ import annotations

from typing import Any

from xaimaps_onnx.export._primitives.equations import written
from xaimaps_onnx.export._primitives.rows import primitive
from xaimaps_onnx.export._traced import Recorder


@primitive(
    "jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", kind="call"
)
def call(write: Recorder, equation: Any, *inputs: Any) -> Any:
    """Write the equations of the called function."""
    closed = equation.params.get("jaxpr") or equation.params["call_jaxpr"]
    return tuple(written(write, closed.jaxpr, closed.consts, inputs))


@primitive("remat2", "checkpoint", kind="call")
def open_call(write: Recorder, equation: Any, *inputs: Any) -> Any:
    """Write the equations of a function without constants."""
    return tuple(written(write, equation.params["jaxpr"], (), inputs))
