"""The embedded network, its labels and a few photographs, all usable offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent

NETWORKS = ("default", "efficientnet-lite0")
"""The names of the embedded network."""


def _models() -> dict[str, Path]:
    found = importlib.util.find_spec("xaimaps_network")
    if found is None or found.origin is None:
        return {}
    return dict.fromkeys(NETWORKS, Path(found.origin).with_name("efficientnet-lite0.onnx"))


MODELS: Mapping[str, Path] = MappingProxyType(_models())
"""The embedded models by name; empty without the distribution `xaimaps-network`, which the extras
install, and whose page is the model card."""

PICTURES: Mapping[str, Path] = MappingProxyType(
    {
        path.stem: path
        for path in (FOLDER / "chelsea.png", FOLDER / "coffee.png", FOLDER / "rocket.jpg")
    }
)
"""The photographs by name, free of copyright."""

LABELS: Mapping[str, Path] = MappingProxyType({"imagenet-1k": FOLDER / "imagenet-1k.txt"})
"""Lists of class names: one per line, in the order of the classes."""
