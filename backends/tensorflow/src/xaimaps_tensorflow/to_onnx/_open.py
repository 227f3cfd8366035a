"""The source of a Keras model: a file, one of Keras's applications, or the embedded network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xaimaps.backend import ModelInfo
from xaimaps_tensorflow._backend import SCHEME
from xaimaps_tensorflow.to_onnx._request import require_source


def open_source(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    allow_unsafe: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> tuple[Any, ModelInfo]:
    """Load a Keras model, with its name, labels and preprocessing.

    Args:
        source: the path of a `.keras` or `.h5` file, a name such as "keras:VGG16", or "default".
        weights: a file of weights for such a name; None for ImageNet's, which Keras downloads.
        allow_unsafe: whether to load a file that contains code.
        custom_objects: classes that a file names.
    """
    require_source(source)
    name = os.fspath(source)
    if name == "default":
        from xaimaps_tensorflow._zoo import efficientnet_lite0

        return efficientnet_lite0()
    if name.startswith(SCHEME):
        from xaimaps_tensorflow._applications import build

        return build(name.removeprefix(SCHEME), weights or "imagenet")
    from xaimaps_keras.read import read_model

    model = read_model(name, allow_unsafe=allow_unsafe, custom_objects=custom_objects)
    return model, ModelInfo(name=Path(name).stem, source=name)
