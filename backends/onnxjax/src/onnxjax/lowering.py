"""The lowering of convolutions on CPU, for programs of JAX that are not ONNX files."""

from onnxjax._ops.channels import is_channels_last
from onnxjax._ops.convolution import convolve_last

__all__ = ["convolve_last", "is_channels_last"]
