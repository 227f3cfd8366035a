"""JAX's primitives as nodes of ONNX: one row for each."""

from xaimaps_onnx.export._primitives import (  # noqa: F401  (registers the rows)
    calls,
    elementwise,
    indexing,
    products,
    reductions,
    shapes,
)
from xaimaps_onnx.export._primitives.equations import whole, written
from xaimaps_onnx.export._primitives.rows import NoRowError, primitives

__all__ = ["NoRowError", "primitives", "whole", "written"]
