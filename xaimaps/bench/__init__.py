"""Measure how fast a model is explained on this machine, to choose a backend and its settings.

from xaimaps import bench
report = bench.run("model.onnx", methods=["grad_cam"], batch_sizes=[1, 8, 32])
max(report.measured, key=lambda row: row.images_per_second)
"""

from xaimaps.bench._report import Report, Row
from xaimaps.bench._run import run

__all__ = ["Report", "Row", "run"]
