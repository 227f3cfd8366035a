"""What an ONNX graph says of itself, for every backend that runs one; and ONNX Runtime as one."""
