"""Conversion of a Keras model to an ONNX file, with all layer names and compared outputs."""
