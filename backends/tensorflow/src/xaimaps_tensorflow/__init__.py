"""The TensorFlow backend of xaimaps: Keras models, live or from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xaimaps_tensorflow._backend import TensorFlowBackend

if TYPE_CHECKING:
    from xaimaps_tensorflow.to_onnx._convert import convert

__all__ = ["TensorFlowBackend", "convert"]


def __getattr__(name: str) -> Any:
    """Import the converter when it is asked for: it needs tf2onnx, the backend does not."""
    if name != "convert":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xaimaps_tensorflow.to_onnx._convert import convert

    return convert
