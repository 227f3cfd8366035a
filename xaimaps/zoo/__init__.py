"""What is embedded: a trained network, its labels and a few photographs, all usable offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xaimaps.errors import BackendError

FOLDER = Path(__file__).parent

MODELS: Mapping[str, Path] = MappingProxyType(
    dict.fromkeys(("default", "efficientnet-lite0"), FOLDER / "efficientnet-lite0.onnx")
)
"""The embedded models by name; see the model card in README.md beside them."""

PICTURES: Mapping[str, Path] = MappingProxyType(
    {
        path.stem: path
        for path in (FOLDER / "chelsea.png", FOLDER / "coffee.png", FOLDER / "rocket.jpg")
    }
)
"""The photographs by name, free of copyright."""

LABELS: Mapping[str, Path] = MappingProxyType({"imagenet-1k": FOLDER / "imagenet-1k.txt"})
"""Lists of class names: one in each line, in the order of the classes."""


def keras_model() -> Any:
    """Build the embedded EfficientNet-Lite0 as a Keras model with the same weights, bit for bit.

    Its outputs are logits. A layer has the name of the ONNX file's value, as the path through
    nested models: `stem/conv` is the layer `conv` of the model `stem`.

    Raises:
        BackendError: the TensorFlow backend is not installed.
    """
    try:
        from xaimaps_tensorflow._zoo import efficientnet_lite0
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the Keras model needs the TensorFlow backend, but the module {error.name!r} is "
            "missing; `pip install 'xaimaps[tensorflow]'`"
        ) from error
    return efficientnet_lite0()[0]
