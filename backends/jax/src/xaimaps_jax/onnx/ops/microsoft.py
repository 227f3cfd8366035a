"""Operators of the com.microsoft domain that ONNX Runtime writes."""
