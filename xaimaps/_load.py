"""`load`: load a file, a live model, a function or an embedded model."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from xaimaps import _registry, zoo
from xaimaps._configs import read_beside
from xaimaps._digest import digest
from xaimaps._images.preprocess import Fit, Preprocess, get_preprocess
from xaimaps._input_pictures import InputPicture, prepared
from xaimaps._inputs import read_inputs, recorded_inputs
from xaimaps._labels import Labels, embedded_name, read_labels
from xaimaps._references import is_reference, make
from xaimaps._sidecar import Sidecar, read_sidecar
from xaimaps.backend import Backend, Precision
from xaimaps.errors import ArrayInputError, BackendError, ModelLoadError, nearest

TORCH = frozenset({".pt", ".pth", ".pt2", ".ptl", ".torchscript"})
"""Suffixes of PyTorch's formats."""

RUNS_CODE = TORCH | {".pkl", ".pickle", ".joblib", ".npy", ".npz", ".pb"}
"""Suffixes of formats that contain pickles or programs."""

TORCH_EXPORT = "`torch.onnx.export(model, images, 'model.onnx')`"
JAX_BACKEND = "the backend for JAX takes it: pip install 'xaimaps[jax]'"

REMEDIES = {
    "torch": f"export it by {TORCH_EXPORT} and load the file",
    "flax": JAX_BACKEND,
    "haiku": JAX_BACKEND,
    "equinox": JAX_BACKEND,
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
    window: tuple[float, float] | None = None,
    inputs: Mapping[str, Any] | None = None,
    precision: Precision = "float32",
    **options: Any,
) -> Backend:
    """Load a model into the backend that can run it.

    What `labels`, `preprocess`, `fit` and `window` do not say is read from the file next to the
    model, such as model.xaimaps.toml for model.onnx, if there is one, and then from the model.

    Args:
        model: the path of a model file, a live model, a JAX function (with `params=` and
            `input_shape=`), the name of an embedded model ("default"), or of one of Keras's
            applications ("keras:VGG16"); or "package.module:function", a function that returns a
            model or a pair of a model and its parameters, which needs `allow_unsafe=True`.
        params: the parameters of a model that does not hold its own, such as a Flax module.
        backend: the name of an installed backend; None for the first that accepts the model.
        labels: the class names as a list; a text file with one per line, which may be numbered
            from 0; a JSON list, or a JSON object from class indices to names; or "imagenet-1k".
            None for the labels recorded in the model file, or in a configuration of Hugging Face
            or timm next to it.
        preprocess: the name of a preset or a `Preprocess`; None for the preprocessing recorded in
            the model file, or in a configuration next to it.
        fit: how the aspect ratio of a picture is changed, "crop", "pad" or "stretch"; None for
            that of the preprocessing.
        window: the values of a picture that are black and white for the model, such as Hounsfield
            units from -160 to 240; None for those that each picture says.
        inputs: the values of a model's other inputs than the explained one, by name: a number, a
            list, an array or a `.npy` file with the value for one image, which all images get; or
            the path of a picture, which is prepared as the model's preprocessing says.
        precision: "float32" on every device; "tf32", in which a GPU rounds the inputs of products;
            or "bfloat16", in which values are stored and multiplied in bfloat16, and summed in
            float32. The JAX backend has all three, the others have float32.
        options: options of the backend's own `load`.

    Returns:
        The backend with the model.

    Raises:
        ModelLoadError: the model or the labels cannot be read.
        UnsupportedModelError: the model has a part that the backend cannot run.
        BackendError: the backend is not installed or lacks the precision, or no backend accepts
            the model.
        ArrayInputError: `preprocess`, `fit` or `window` is invalid, or there is no preprocessing
            that `fit` or `window` could change; or a value of `inputs` does not fit the model.

    Example:
        >>> import xaimaps
        >>> model = xaimaps.load("default")
        >>> model.input_shape
        (224, 224, 3)
    """
    if not isinstance(backend, str | None):
        raise BackendError(f"`backend` must be the name of a backend, got {backend!r}")
    if precision not in get_args(Precision):
        allowed = ", ".join(get_args(Precision))
        raise BackendError(f"`precision` must be one of {allowed}, got {precision!r}")
    place = located(model)
    given = {"labels": labels, "preprocess": preprocess, "fit": fit, "window": window}
    again = {**given, "backend": backend, "precision": precision, **options}
    said = read_sidecar(place).with_arguments(**given)
    if said.input_size is not None:
        options.setdefault("input_size", said.input_size)
    if params is not None:
        options["params"] = params
    loaded = _loaded(place, backend, options, said, {} if inputs is None else inputs)
    loaded = loaded.with_precision(precision)
    loaded.reload = functools.partial(load, model, params, **again)
    return loaded


def _loaded(
    place: Any, backend: str | None, options: dict[str, Any], said: Sidecar, inputs: Any
) -> Backend:
    """Load and describe a model; twice if inputs have pictures, as it says how to prepare them."""
    values = read_inputs(inputs, options.get("input_size"))
    loaded = _with_values(place, backend, options, said, values)
    if any(isinstance(value, InputPicture) for value in values.values()):
        values = prepared(values, loaded.info.preprocess, loaded.info.name)
        loaded = _with_values(place, backend, options, said, values)
    for value in values.values():
        loaded.info.notes += value.notes if isinstance(value, InputPicture) else ()
    loaded.info.inputs = recorded_inputs(inputs)
    return loaded


def _with_values(
    place: Any,
    backend: str | None,
    options: dict[str, Any],
    said: Sidecar,
    values: Mapping[str, Any],
) -> Backend:
    loader = _load_reference if is_reference(place) else _load_with
    loaded = loader(place, backend, {**options, "inputs": values} if values else options)
    loaded.info.loading = _arguments(place, said.labels, options)
    _describe(loaded, said, place)
    return loaded


def _load_with(model: Any, backend: str | None, options: dict[str, Any]) -> Backend:
    try:
        return _registry.load_with(backend, model, options)
    except BackendError as error:
        if why := remedy(model):
            raise BackendError(f"{error}; {why}") from error
        raise


def _load_reference(reference: str, backend: str | None, options: dict[str, Any]) -> Backend:
    """Load the model that a user's function returns."""
    others = dict(options)
    made = make(reference, allow_unsafe=others.pop("allow_unsafe", False))
    if made.params is not None:
        others.setdefault("params", made.params)
    loaded = _load_with(made.model, backend, others)
    if made.file and not loaded.info.source:
        loaded.info.source, loaded.info.sha256 = made.file, digest(made.file)
    return loaded


def _describe(loaded: Backend, said: Sidecar, place: Any) -> None:
    """Set what is said about a model, in place of what its file and those next to it record."""
    info = loaded.info
    if said.labels is not None:
        info.labels = read_labels(said.labels)
        info.labels_name = embedded_name(said.labels)
    elif info.labels_name in zoo.LABELS:
        info.labels = read_labels(info.labels_name)
    if said.preprocess is not None:
        info.preprocess = get_preprocess(said.preprocess)
        info.notes += _doubled(loaded, info.preprocess)
    if isinstance(place, Path):
        read_beside(place, info)
    changes = {"fit": said.fit, "window": said.window}
    told = {name: value for name, value in changes.items() if value is not None}
    if told:
        info.preprocess = _changed(info.preprocess, told)
    info.layer = said.layer


def _changed(preset: Preprocess | None, told: dict[str, Any]) -> Preprocess:
    if preset is None:
        name, value = next(iter(told.items()))
        raise ArrayInputError(
            f"`{name}` needs a known preprocessing, got {value!r} for a model that records none; "
            "give `preprocess`, too"
        )
    return replace(preset, **told)


def _doubled(loaded: Backend, preset: Preprocess) -> list[str]:
    """Note a model that rescales images which the preset has rescaled before."""
    inside = loaded.network.rescaling
    if inside is None or (preset.scale, {*preset.mean}, {*preset.std}) == (1, {0}, {1}):
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
    if _registry.is_named(name) or is_reference(name):
        return name
    if not os.path.lexists(name):
        if name in zoo.NETWORKS:
            raise ModelLoadError(
                f"the embedded network {name!r} must be installed, got none; "
                "pip install xaimaps-network"
            )
        raise ModelLoadError(
            f"no model file {name!r}, and no embedded model of that name"
            f"{nearest(name, zoo.MODELS)}; give the path of a file{_schemes()}"
        )
    return Path(name)


def _runs_code(model: Any) -> str:
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
    elif model.suffix.lower() in TORCH:
        remedy += f", as by {TORCH_EXPORT}"
    return f"{what} is not supported, because such formats run code when they are loaded: {remedy}"


def remedy(model: Any) -> str:
    """Return what to do with a model that no backend takes, or an empty text."""
    if isinstance(model, Path) and model.suffix.lower() == ".tflite":
        return f"convert it by `python -m tf2onnx.convert --tflite {model} --output model.onnx`"
    packages = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    return next((REMEDIES[name] for name in packages if name in REMEDIES), _runs_code(model))


def _schemes() -> str:
    known = ", ".join(f"{scheme}:NAME" for scheme in _registry.schemes())
    return f" or {known}" if known else ""
