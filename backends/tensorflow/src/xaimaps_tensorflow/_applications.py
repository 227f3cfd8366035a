"""The architectures of `keras.applications` by name, each with its own preprocessing."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from xaimaps_keras.weights import WeightsFile

from xaimaps._images.preprocess import get_preprocess
from xaimaps.backend import ModelInfo
from xaimaps.errors import ModelLoadError, nearest
from xaimaps_tensorflow._options import require_options

Constructor = Callable[..., Any]

PREPROCESSING: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("resnet", "vgg16", "vgg19"), "caffe"),
        **dict.fromkeys(("densenet",), "torch"),
        **dict.fromkeys(("inception_resnet_v2", "inception_v3", "xception"), "tf"),
        **dict.fromkeys(("mobilenet", "mobilenet_v2", "nasnet", "resnet_v2"), "tf"),
        # These take pixels, because their first layers are the preprocessing.
        **dict.fromkeys(("convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"), "raw"),
    }
)
"""The preset of each module of `keras.applications`."""

_FETCH = re.compile(r"(https?://\S+?): (.*)")


def architectures() -> dict[str, Constructor]:
    """Return the functions of `keras.applications` that build a network, by name."""
    found = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: build for name, build in found if name[0].isupper()}


def preset(constructor: Constructor) -> str | None:
    """Return the preprocessing of an architecture, or None if it is newer than this table."""
    return PREPROCESSING.get(module(constructor))


def module(constructor: Constructor) -> str:
    """Return the module that defines an architecture, such as "vgg16"."""
    return constructor.__module__.rpartition(".")[2]


def build(name: str, weights: str | os.PathLike[str] | None = "imagenet") -> tuple[Any, ModelInfo]:
    """Build an architecture of `keras.applications` at its own size, with its 1000 classes.

    Args:
        name: the name in `keras.applications`, such as "VGG16".
        weights: "imagenet", which Keras downloads once; a file of weights; or None for random
            weights.

    Returns:
        The Keras model, and its preprocessing and labels.

    Raises:
        ModelLoadError: there is no such architecture, or its weights cannot be loaded.
    """
    require_options(weights=weights)
    known = architectures()
    if name not in known:
        raise ModelLoadError(
            f"expected an architecture of keras.applications, got {name!r}{nearest(name, known)}; "
            f"there are {', '.join(known)}"
        )
    preprocessing = preset(known[name])
    info = ModelInfo(
        name=name,
        labels_name="imagenet-1k",
        preprocess=get_preprocess(preprocessing) if preprocessing else None,
    )
    return _with_weights(known[name], weights, info), info


def _with_weights(
    constructor: Constructor, weights: str | os.PathLike[str] | None, info: ModelInfo
) -> Any:
    if weights == "imagenet":
        return _downloaded(constructor, info.name)
    file = None if weights is None else WeightsFile.check(Path(weights))
    model = constructor(weights=None, **_options(constructor))
    if file is None:
        info.notes.append("its weights are random: pass weights= for maps that mean something")
        return model
    file.load_into(model, info.name)
    if _is_rescaled(constructor, file):
        _rescale(model, constructor.__globals__["IMAGENET_STDDEV_RGB"])
    info.source, info.sha256 = str(file.path), _digest(file.path, "sha256")
    return model


def _options(constructor: Constructor) -> dict[str, Any]:
    """Return the image size, if Keras has no default."""
    return {"input_shape": (224, 224, 3)} if module(constructor) == "mobilenet_v3" else {}


def _is_rescaled(constructor: Constructor, file: WeightsFile) -> bool:
    """Return whether weights are those of EfficientNet with an additional rescaling of its inputs.

    Keras builds that network for its own weights, and the rescaling is a layer without weights. The
    same weights also load into `weights=None`, which lacks it and then gives wrong outputs.
    """
    if module(constructor) != "efficientnet":
        return False
    hashes = constructor.__globals__.get("WEIGHTS_HASHES", {}).values()
    published = {item for pair in hashes for item in pair}
    twice = sum("rescaling" in name for name in file.layers) > 1
    return twice or _digest(file.path, "md5") in published


def _rescale(model: Any, deviations: Sequence[float]) -> None:
    """Divide the inputs by the square root of `deviations`, in the model's normalisation layer."""
    layer = next(item for item in model.layers if isinstance(item, keras.layers.Normalization))
    mean, variance, count = layer.get_weights()
    layer.set_weights([mean, variance * np.asarray(deviations, variance.dtype), count])
    layer.finalize_state()


def _downloaded(constructor: Constructor, name: str) -> Any:
    try:
        # Keras prints its progress to stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            return constructor(weights="imagenet", **_options(constructor))
    except Exception as error:  # Keras raises a plain Exception
        raise ModelLoadError(_undelivered(name, str(error))) from error


def _undelivered(name: str, problem: str) -> str:
    found = _FETCH.search(problem)
    url, reason = found.groups() if found else ("its server", problem.partition("\n")[0])
    file = url.rpartition("/")[2] if found else "the file"
    return (
        f"Keras cannot download the ImageNet weights of {name} from {url} ({reason[:200]}); get "
        f"{file} on another machine and pass it with --weights FILE, or weights= in Python"
    )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
