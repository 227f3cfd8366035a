"""Draw every method on the embedded photographs, for the gallery page.

    uv run python docs/make_gallery.py [METHOD ...]

Writes docs/images/gallery/METHOD.jpg: the three photographs with the method's maps of their top
class. Options below keep the methods of thousands of passes to minutes on a CPU.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import xaimaps
from xaimaps._plan import able_methods
from xaimaps.methods import METHODS

FOLDER = Path(__file__).parent / "images" / "gallery"
SIDE = 224
OPTIONS: dict[str, dict[str, Any]] = {
    # before global pooling, the gradient is the same at every position
    "internal_influence": {"layer": "blocks.5.3/add"},
    "score_cam": {"channels": 256},
    "is_cam": {"channels": 64},
    "ss_cam": {"channels": 32, "n_samples": 8},
    "rise": {"n_masks": 1000},
    "occlusion": {"window": 32, "stride": 16},
    "lime": {"n_samples": 500},
    "kernel_shap": {"n_samples": 600},
    "shapley_sampling": {"n_permutations": 12},
    "owen": {"depth": 5},
    "sobol": {"n_designs": 8},
    "hsic": {"n_samples": 500},
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = xaimaps.load("default")
    for name in sys.argv[1:] or able_methods(model, METHODS):
        begin = time.perf_counter()
        draw(model, name).save(FOLDER / f"{name}.jpg", quality=88)
        print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)


def draw(model: xaimaps.Backend, name: str) -> Image.Image:
    """The overlays of all photographs in a row."""
    row = Image.new("RGB", (SIDE * len(xaimaps.zoo.PICTURES), SIDE))
    for place, path in enumerate(xaimaps.zoo.PICTURES.values()):
        found = xaimaps.explain(model, path, name, **OPTIONS.get(name, {}))
        assert np.isfinite(found.maps).all()
        row.paste(found.overlay().resize((SIDE, SIDE)), (SIDE * place, 0))
    return row


if __name__ == "__main__":
    main()
