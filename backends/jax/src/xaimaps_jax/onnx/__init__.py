"""ONNX models as JAX functions that can be compiled, batched and differentiated."""

from xaimaps_jax.onnx.model import OnnxModel, load, run
from xaimaps_jax.onnx.registry import op, operators

__all__ = ["OnnxModel", "load", "op", "operators", "run"]
