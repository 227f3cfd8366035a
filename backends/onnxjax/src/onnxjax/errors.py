"""The errors of onnxjax, one class for each kind of mistake.

Every message is one sentence: what was expected, what was found, and what to do.
"""

from __future__ import annotations


class OnnxJaxError(Exception):
    """The base class of every error that onnxjax raises on purpose."""


class ModelLoadError(OnnxJaxError, ValueError):
    """A model file is missing, damaged or unsafe."""


class UnsupportedModelError(OnnxJaxError, NotImplementedError):
    """A model is valid, but a part of it cannot be run here."""


class ArrayInputError(OnnxJaxError, ValueError):
    """An input is missing, or a name is not a value of the graph."""
