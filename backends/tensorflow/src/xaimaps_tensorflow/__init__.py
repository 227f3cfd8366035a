"""The TensorFlow backend of xaimaps: Keras models, live or from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xaimaps_tensorflow._backend import TensorFlowBackend
from xaimaps_tensorflow._export import export

if TYPE_CHECKING:
    from xaimaps_tensorflow.to_onnx._convert import convert

__all__ = ["TensorFlowBackend", "convert", "export", "keras_model"]


def keras_model() -> Any:
    """Build the embedded EfficientNet-Lite0 as a Keras model with exactly the same weights.

    Its outputs are logits. A layer has the name of the ONNX file's value as its path through
    nested models: `stem/conv` is the layer `conv` of the model `stem`.
    """
    from xaimaps_tensorflow._zoo import efficientnet_lite0

    return efficientnet_lite0()[0]


def __getattr__(name: str) -> Any:
    """Import the converter on first use, because only it needs tf2onnx."""
    if name != "convert":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xaimaps_tensorflow.to_onnx._convert import convert

    return convert
