"""Any ONNX file as a JAX function that can be compiled, batched and differentiated."""

from onnxjax._model import OnnxModel, Value, build, load, read_graph, run
from onnxjax.registry import Kind, Rule, describe, op, operators

__all__ = [
    "Kind",
    "OnnxModel",
    "Rule",
    "Value",
    "build",
    "describe",
    "load",
    "op",
    "operators",
    "read_graph",
    "run",
]
