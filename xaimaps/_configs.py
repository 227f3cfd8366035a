"""Configurations of Hugging Face and timm next to a model file: class names and preprocessing.

    config.json               Hugging Face's `id2label`, or timm's `label_names`, `pretrained_cfg`
    preprocessor_config.json  the image processor of Hugging Face

They fill in what neither the user nor the model file tells. A value that is not as expected is
ignored, like a file that is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from xaimaps._images.preprocess import Fit, Interpolation, Preprocess
from xaimaps._labels import labels_of
from xaimaps.backend import ModelInfo
from xaimaps.errors import ArrayInputError

Config = dict[str, Any]
Size = tuple[int, int]
Value = TypeVar("Value")

MODEL, PROCESSOR = "config.json", "preprocessor_config.json"

RESAMPLE: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""The filters by their numbers in Pillow."""

CROP_MODES: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}
"""The changes of the aspect ratio by their names in timm."""

LEAST_WHOLE = 384
"""The smallest size at which ConvNeXt's processor crops nothing."""


class Geometry(NamedTuple):
    """How a picture becomes an input of a size; None for any."""

    fit: Fit
    crop_fraction: float
    size: Size | None


class Input(NamedTuple):
    """A preprocessing, and the size of its results."""

    preprocess: Preprocess
    size: Size | None


def read_beside(model: Path, info: ModelInfo) -> None:
    """Fill in the class names, the preprocessing and the size, with a note for each file."""
    config, processor = _config(model, MODEL), _config(model, PROCESSOR)
    if info.labels is None and (labels := _expected(_labels, config)):
        info.labels = labels
        info.notes.append(f"the class names are read from {MODEL!r} next to the model")
    found = _expected(_of_timm, config) or _expected(_of_processor, processor)
    if info.preprocess is None and found is not None:
        info.preprocess, size = found
        info.input_size = info.input_size or size
        name = info.preprocess.name
        info.notes.append(f"the preprocessing is read from {name!r} next to the model")


def _config(model: Path, name: str) -> Config:
    """Return a configuration in the model's folder, or in the one above a folder `onnx`."""
    folder = model.parent.parent if model.parent.name == "onnx" else model.parent
    places = (place / name for place in dict.fromkeys((model.parent, folder)))
    path = next((place for place in places if place.is_file()), None)
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _expected(read: Callable[[Config], Value], config: Config) -> Value | None:
    """Return what a function reads, or None if a value is missing or not as expected."""
    try:
        return read(config)
    except (ArrayInputError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None


def _labels(config: Config) -> tuple[str, ...]:
    return labels_of(config["id2label"] if "id2label" in config else config["label_names"])


def _of_timm(config: Config) -> Input:
    own = config["pretrained_cfg"]
    _, height, width = own["input_size"]
    preprocess = Preprocess(
        MODEL,
        scale=1 / 255,
        mean=_channels(own["mean"]),
        std=_channels(own["std"]),
        fit=CROP_MODES[own.get("crop_mode", "center")],
        crop_fraction=float(own["crop_pct"]),
        interpolation=own["interpolation"],
    )
    return Input(preprocess, (int(height), int(width)))


def _of_processor(config: Config) -> Input:
    fit, fraction, size = _geometry(config)
    is_normalised, is_scaled = config.get("do_normalize", True), config.get("do_rescale", True)
    preprocess = Preprocess(
        PROCESSOR,
        scale=float(config.get("rescale_factor", 1 / 255)) if is_scaled else 1.0,
        mean=_channels(config["image_mean"]) if is_normalised else (0.0, 0.0, 0.0),
        std=_channels(config["image_std"]) if is_normalised else (1.0, 1.0, 1.0),
        channels="BGR" if config.get("do_flip_channel_order") else "RGB",
        fit=fit,
        crop_fraction=fraction,
        interpolation=RESAMPLE[config["resample"]],
    )
    return Input(preprocess, size)


def _geometry(config: Config) -> Geometry:
    """Return how an image processor of Hugging Face changes the size."""
    size = config["size"]
    edge: Any = size.get("shortest_edge") if isinstance(size, dict) else size
    if config.get("do_center_crop"):
        height, width = _sides(config["crop_size"])
        return Geometry("crop", min(height, width) / edge, (height, width))
    if isinstance(size, dict) and "longest_edge" in size:
        return Geometry("pad", 1.0, None)
    if "crop_pct" in config and edge < LEAST_WHOLE:
        return Geometry("crop", float(config["crop_pct"]), _sides(edge))
    return Geometry("stretch", 1.0, _sides(edge or size))


def _sides(size: Any) -> Size:
    return (size["height"], size["width"]) if isinstance(size, dict) else (int(size), int(size))


def _channels(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue
