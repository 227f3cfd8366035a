"""Quantised tensors and the integer operators on them."""
