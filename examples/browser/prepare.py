"""Write a model with Grad-CAM in it, and what the page needs to know of its pictures and classes.

    python prepare.py [MODEL] [FOLDER]

The page reads `explained.onnx` and `model.json` from its own folder, which is the default.
"""

import json
import sys
from pathlib import Path

import onnx

import xaimaps

name = sys.argv[1] if len(sys.argv) > 1 else "default"
folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent
xaimaps.export(name, folder / "explained.onnx", "grad_cam", target="input", form="normalised")

model = xaimaps.load(name)
described, size = model.info.preprocess, model.input_shape[0]
images = onnx.load(folder / "explained.onnx").graph.input[0].type.tensor_type.shape.dim
if described is None or described.channels != "RGB" or images[1].dim_value != 3:
    sys.exit("the page needs a model of RGB pictures, channels first, of known preprocessing")
fields = ("scale", "mean", "std", "crop_fraction")
known = {field: getattr(described, field) for field in fields}
text = json.dumps({"size": size, "labels": model.info.labels, **known})
(folder / "model.json").write_text(text, encoding="utf-8")
print(f"wrote explained.onnx and model.json to {folder.resolve()}")
