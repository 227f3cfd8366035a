"""An ONNX file that holds a method: the same outputs, and the map as a further one."""

from xaimaps_onnx.export._export import export

__all__ = ["export"]
