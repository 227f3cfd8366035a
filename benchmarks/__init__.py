"""Measurements of xaimaps, `python -m benchmarks NAME`, and what they found, in `results/`."""
