"""ONNX Runtime as a backend: the file as it is deployed, forward only."""

from xaimaps_onnx.runtime._backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
