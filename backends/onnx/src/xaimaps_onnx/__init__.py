"""ONNX for xaimaps: the ONNX Runtime backend, and the converter of Keras models."""
