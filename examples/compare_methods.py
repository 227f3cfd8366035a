"""Compare what several methods say of one photograph and one class.

Run with `uv run python examples/compare_methods.py`. It prints the share of each map's
magnitude that lies in the middle of the picture, and saves an overlay for each method.
"""

from pathlib import Path

import numpy as np

import xaimaps

METHODS = ("saliency", "guided_backprop", "cam", "grad_cam", "layer_cam")

model = xaimaps.load("default")
folder = Path("xaimaps-output")
folder.mkdir(exist_ok=True)

for method in METHODS:
    result = xaimaps.explain(
        model, xaimaps.zoo.PICTURES["chelsea"], method=method, target="Egyptian cat"
    )
    evidence = np.abs(result.maps[0])
    height, width = evidence.shape
    middle = evidence[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    print(f"{method:16} {height:3} x {width:3} places, {middle.sum() / evidence.sum():.0%} inside")
    result.overlay().save(folder / f"chelsea-{method}.png")
