"""Any ONNX file as a JAX function that can be compiled, batched and differentiated."""

from onnxjax._model import OnnxModel, Value, build, load, run
from onnxjax.registry import op, operators

__all__ = ["OnnxModel", "Value", "build", "load", "op", "operators", "run"]
