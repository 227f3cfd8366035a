"""The analysis of ONNX graphs for every backend that runs them, and the ONNX Runtime backend."""
