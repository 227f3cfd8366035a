"""Explain a photograph with the embedded network: what made it say "Egyptian cat"?

Run with `uv run python examples/explain_a_picture.py [PICTURE]`. It works offline, and writes an
overlay, a heat map, the raw maps and a manifest into `xaimaps-output/`.
"""

import sys

import xaimaps

picture = sys.argv[1] if len(sys.argv) > 1 else xaimaps.zoo.PICTURES["chelsea"]

model = xaimaps.load("default")
result = xaimaps.explain(model, picture, method="grad_cam")

for prediction in result.top(3):
    print(f"{prediction.probability:6.1%}  {prediction.label}")
result.save("xaimaps-output")
