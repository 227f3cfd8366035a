"""ONNX for xaimaps: the ONNX Runtime backend, and the converter of Keras models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xaimaps_onnx.backend import OnnxRuntimeBackend
    from xaimaps_onnx.converting import convert

__all__ = ["OnnxRuntimeBackend", "convert"]

_HOMES = {"OnnxRuntimeBackend": "xaimaps_onnx.backend", "convert": "xaimaps_onnx.converting"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the converter needs TensorFlow, the backend does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
