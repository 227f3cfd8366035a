"""The lowering of convolutions, for programs of JAX that are not ONNX files."""

from onnxjax._ops.convolution import convolve_last, has_disjoint_windows
from onnxjax._ops.platforms import lowering

__all__ = ["convolve_last", "has_disjoint_windows", "lowering"]
