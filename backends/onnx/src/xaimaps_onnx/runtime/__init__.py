"""The ONNX Runtime backend, which runs the deployed file and has no gradients."""

from xaimaps_onnx.runtime._backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
