"""From a Keras model to an ONNX file, with every layer's name and the answers compared."""
