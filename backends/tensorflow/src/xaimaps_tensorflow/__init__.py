"""The TensorFlow backend of xaimaps: Keras models, live or from their files."""

from xaimaps_tensorflow.backend import TensorFlowBackend

__all__ = ["TensorFlowBackend"]
