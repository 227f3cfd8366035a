"""`load`: load a file, a live model, a function or an embedded model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xaimaps import _registry, zoo
from xaimaps._images.preprocess import Fit, Preprocess, get_preprocess
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError, BackendError, ModelLoadError, nearest

Labels = Sequence[str] | str | os.PathLike[str]

RUNS_CODE = frozenset({".pt", ".pth", ".pt2", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".pb"})
"""Suffixes of formats that contain pickles or programs."""

TORCH_EXPORT = "`torch.onnx.export(model, images, 'model.onnx')`"
FUNCTION = (
    "give a function of its parameters: `load(lambda params, images: ..., params=..., "
    "input_shape=(height, width, channels))`"
)

REMEDIES = {
    "torch": f"export it by {TORCH_EXPORT} and load the file",
    "flax": FUNCTION,
    "haiku": FUNCTION,
    "equinox": FUNCTION,
    "tensorflow": "give a Keras model, or convert the SavedModel to ONNX by `tf2onnx`",
}
"""What to do with a live object, by the package of its class."""


def load(
    model: Any = "default",
    params: Any = None,
    *,
    backend: str | None = None,
    labels: Labels | None = None,
    preprocess: str | Preprocess | None = None,
    fit: Fit | None = None,
    **options: Any,
) -> Backend:
    """Load a model into the backend that can run it.

    Args:
        model: the path of a model file, a live model, a JAX function (with `params=` and
            `input_shape=`), the name of an embedded model ("default"), or of one of Keras's
            applications ("keras:VGG16").
        params: the parameters of a model that does not hold its own, such as a Flax module.
        backend: the name of an installed backend; None for the first that accepts the model.
        labels: the class names as a list; a text file with one per line, which may be numbered
            from 0; a JSON list, or a JSON object from class indices to names; or "imagenet-1k".
            None for the labels recorded in the model file.
        preprocess: the name of a preset or a `Preprocess`; None for the preprocessing recorded in
            the model file.
        fit: how the aspect ratio of a picture is changed, "crop", "pad" or "stretch"; None for
            that of the preprocessing.
        options: options of the backend's own `load`.

    Returns:
        The backend with the model.

    Raises:
        ModelLoadError: the model or the labels cannot be read.
        UnsupportedModelError: the model has a part that the backend cannot run.
        BackendError: the backend is not installed, or no backend accepts the model.
        ArrayInputError: `preprocess` or `fit` is unknown, or `fit` has no preprocessing to change.

    Example:
        >>> import xaimaps
        >>> model = xaimaps.load("default")
        >>> model.input_shape
        (224, 224, 3)
    """
    if not isinstance(backend, str | None):
        raise BackendError(f"`backend` must be the name of a backend, got {backend!r}")
    place = located(model)
    if params is not None:
        options["params"] = params
    try:
        loaded = _registry.load_with(backend, place, options)
    except BackendError as error:
        if why := _remedy(place):
            raise BackendError(f"{error}; {why}") from error
        raise
    loaded.info.loading = _arguments(place, labels, options)
    if labels is not None:
        loaded.info.labels = read_labels(labels)
    elif loaded.info.labels_name in zoo.LABELS:
        loaded.info.labels = read_labels(loaded.info.labels_name)
    if preprocess is not None:
        loaded.info.preprocess = get_preprocess(preprocess)
        loaded.info.notes += _doubled(loaded, loaded.info.preprocess)
    if fit is not None:
        loaded.info.preprocess = _fitted(loaded.info.preprocess, fit)
    return loaded


def _fitted(preset: Preprocess | None, fit: Fit) -> Preprocess:
    if preset is None:
        raise ArrayInputError(
            f"`fit` needs a known preprocessing, got {fit!r} for a model that records none; give "
            "`preprocess`, too"
        )
    return replace(preset, fit=fit)


def _doubled(loaded: Backend, preset: Preprocess) -> list[str]:
    """Note a model that rescales images which the preset has rescaled before."""
    inside = loaded.network.rescaling
    if inside is None or (preset.scale, preset.mean, preset.std) == (1, (0, 0, 0), (1, 1, 1)):
        return []
    return [
        f"the model rescales images itself, by {inside}, after the preset {preset.name!r} has done "
        "so; use 'raw' if the model was trained on pixels from 0 to 255"
    ]


def _arguments(place: Any, labels: Labels | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that load the model again, for manifests, with paths as text."""
    given = options if labels is None else {**options, "labels": labels}
    given = given | ({"model": place} if isinstance(place, str) else {})
    return {n: os.fspath(v) if isinstance(v, os.PathLike) else v for n, v in given.items()}


def located(model: Any) -> Any:
    """Return the path of an embedded model or of a file; anything else is returned unchanged."""
    if not isinstance(model, str | os.PathLike):
        return model
    name = os.fspath(model)
    if name in zoo.MODELS:
        return zoo.MODELS[name]
    if _registry.is_named(name):
        return name
    if not os.path.lexists(name):
        raise ModelLoadError(
            f"no model file {name!r}, and no embedded model of that name"
            f"{nearest(name, zoo.MODELS)}; give the path of a file{_schemes()}"
        )
    return Path(name)


def runs_code(model: Any) -> str:
    """Return why a format that runs code is refused, or an empty text for other models."""
    if not isinstance(model, Path):
        return ""
    is_saved_model = model.is_dir() and (model / "saved_model.pb").exists()
    if not is_saved_model and model.suffix.lower() not in RUNS_CODE:
        return ""
    what = "a SavedModel folder" if is_saved_model else model.suffix
    remedy = f"export {str(model)!r} as .onnx, .keras or .h5"
    if is_saved_model:
        remedy += f", as by `python -m tf2onnx.convert --saved-model {model} --output model.onnx`"
    elif model.suffix.lower() in (".pt", ".pth", ".pt2"):
        remedy += f", as by {TORCH_EXPORT}"
    return f"{what} is not supported, because such formats run code when they are loaded: {remedy}"


def _remedy(model: Any) -> str:
    """Return what to do with a model that no backend takes, or an empty text."""
    if isinstance(model, Path) and model.suffix.lower() == ".tflite":
        return f"convert it by `python -m tf2onnx.convert --tflite {model} --output model.onnx`"
    packages = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    return next((REMEDIES[name] for name in packages if name in REMEDIES), runs_code(model))


def _schemes() -> str:
    known = ", ".join(f"{scheme}:NAME" for scheme in _registry.schemes())
    return f" or {known}" if known else ""


def read_labels(labels: Labels) -> tuple[str, ...]:
    """Return class names from a list, a text file, or the name of an embedded list.

    Raises:
        ModelLoadError: the labels are not text, or the file cannot be read.
    """
    if not isinstance(labels, str | os.PathLike):
        return _checked_labels(labels)
    path = zoo.LABELS.get(os.fspath(labels), Path(labels))
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _labels_of_json(text) if path.suffix.lower() == ".json" else _labels_of_lines(text)
    except (OSError, ValueError) as error:
        raise ModelLoadError(
            f"`labels` must be a text file with a name in each line, a JSON list or object of "
            f"names, or one of {', '.join(zoo.LABELS)}, got {str(path)!r}, which cannot be read "
            f"({error})"
        ) from None


def _labels_of_lines(text: str) -> tuple[str, ...]:
    """Return the lines; without their numbers, if they are counted from 0 as "0 cat"."""
    lines = text.splitlines()
    parts = [line.split(maxsplit=1) for line in lines]
    if all(len(part) == 2 and part[0] == str(i) for i, part in enumerate(parts)):
        return tuple(name for _, name in parts)
    return tuple(lines)


def _labels_of_json(text: str) -> tuple[str, ...]:
    """Return the names of a list, or of an object from class indices to names.

    Keras's index of ImageNet has a pair of WordNet id and name for each class.

    Raises:
        ValueError: it is something else, or an index is missing.
    """
    found = json.loads(text)
    if isinstance(found, dict):
        if {*found} != {str(i) for i in range(len(found))}:
            raise ValueError("its keys are not the class indices")
        found = [found[str(i)] for i in range(len(found))]
    if not isinstance(found, list):
        raise ValueError("it is neither a list nor an object")
    names = tuple(one[-1] if isinstance(one, list) and one else one for one in found)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is not text")
    return names


def _checked_labels(labels: Any) -> tuple[str, ...]:
    is_list = isinstance(labels, Iterable)
    names = tuple(labels) if is_list else ()
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ModelLoadError(
            f"`labels` must be a list of names, or the path of a text file, got {labels!r:.200}"
        )
    return names
