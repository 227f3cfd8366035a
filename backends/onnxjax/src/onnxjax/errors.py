"""What can go wrong with a model file, one class for each kind of mistake.

Every message is one sentence: what was expected, what came, what to do.
"""

from __future__ import annotations


class OnnxJaxError(Exception):
    """Base of every error that onnxjax raises on purpose."""


class ModelLoadError(OnnxJaxError, ValueError):
    """A model file is missing, damaged or unsafe."""


class UnsupportedModelError(OnnxJaxError, NotImplementedError):
    """A model is sound, but has a part that cannot be run here."""


class ArrayInputError(OnnxJaxError, ValueError):
    """An input is missing, or a name is no value of the graph."""
