"""The embedded network, its labels and a few photographs, all usable offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent

MODELS: Mapping[str, Path] = MappingProxyType(
    dict.fromkeys(("default", "efficientnet-lite0"), FOLDER / "efficientnet-lite0.onnx")
)
"""The embedded models by name; see the model card, README.md in this folder."""

PICTURES: Mapping[str, Path] = MappingProxyType(
    {
        path.stem: path
        for path in (FOLDER / "chelsea.png", FOLDER / "coffee.png", FOLDER / "rocket.jpg")
    }
)
"""The photographs by name, free of copyright."""

LABELS: Mapping[str, Path] = MappingProxyType({"imagenet-1k": FOLDER / "imagenet-1k.txt"})
"""Lists of class names: one per line, in the order of the classes."""
