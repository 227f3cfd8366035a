"""An ONNX file that holds a method: the same outputs, and the map as a further one."""

from xaimaps_onnx.export._export import Exported, export

__all__ = ["Exported", "export"]
