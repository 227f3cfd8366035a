"""The embedded network of xaimaps, as a file: EfficientNet-Lite0 for ImageNet."""

from pathlib import Path

PATH = Path(__file__).with_name("efficientnet-lite0.onnx")
"""The ONNX file; README.md in the distribution is its model card."""
