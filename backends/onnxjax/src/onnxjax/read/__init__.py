"""Reading of ONNX files that are not trusted."""

from onnxjax.read._external import is_external
from onnxjax.read._file import Source, read_model
from onnxjax.read._nodes import needed
from onnxjax.read._validate import all_tensors

__all__ = ["Source", "all_tensors", "is_external", "needed", "read_model"]
