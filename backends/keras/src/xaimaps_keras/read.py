"""`read_model`: the Keras model in a file, with checks before and after Keras reads it."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from xaimaps.errors import ModelLoadError, UnsupportedModelError
from xaimaps_keras.archive import Members, read_members
from xaimaps_keras.configs import Checks, parse
from xaimaps_keras.copies import HDF5, staged, without_weights
from xaimaps_keras.failures import loading, refusing, require_finite
from xaimaps_keras.formats import Kind, kind_of
from xaimaps_keras.hdf5 import checked
from xaimaps_keras.legacy import reworded
from xaimaps_keras.limits import RATIO
from xaimaps_keras.operations import TensorOperation
from xaimaps_keras.options import FILE_RULES, require_valid
from xaimaps_keras.sizes import require_possible_sizes
from xaimaps_keras.weight_counts import require_weights, weights_in


def read_model(
    path: str | os.PathLike[str],
    *,
    allow_unsafe: bool = False,
    custom_objects: Mapping[str, Any] | None = None,
) -> Any:
    """Read a `.keras` file, or an `.h5` file of Keras 2, tf_keras or Keras 3.

    Args:
        path: the file; its first bytes determine its format.
        allow_unsafe: whether the file may run its own code, as `Lambda` layers do.
        custom_objects: your own layers and functions, by their names in the file.

    Returns:
        The model, not compiled.

    Raises:
        ModelLoadError: the file is missing, damaged, incomplete or unsafe.
        UnsupportedModelError: the format, or a part of the model, cannot be used here.
    """
    options = {"allow_unsafe": allow_unsafe, "custom_objects": custom_objects}
    require_valid(FILE_RULES, options)
    path = Path(path)
    kind = kind_of(path)
    most = RATIO * path.stat().st_size
    checks = Checks(repr(str(path)), dict(custom_objects or {}), allow_unsafe, most)
    with refusing(checks.name):
        read = _read_archive if kind is Kind.ARCHIVE else _read_hdf5
        model = read(path, checks)
        require_possible_sizes(model, checks.name)
    require_finite(model, checks.name)
    return model


def _read_archive(path: Path, checks: Checks) -> Any:
    library = _check_archive(path, checks)
    with staged(path, (".keras",)) as file:
        return _load(library, file, checks)


def _check_archive(path: Path, checks: Checks) -> Any:
    """Check all members, and return the library that wrote them."""
    members = read_members(path)
    library = _tf_keras(checks.name) if _is_keras_2(members, checks.name) else keras
    config = parse(members.config, checks.name)
    checks.check({key: value for key, value in config.items() if key != "compile_config"})
    with checked(members.weights, checks.name) as file:
        stored = weights_in(file)
    if library is keras:
        _check_weights(members.config, Kind.ARCHIVE, stored, checks)
    return library


def _check_weights(config: str | bytes, kind: Kind, stored: int, checks: Checks) -> None:
    with without_weights(config, kind) as empty:
        require_weights(lambda: _load(keras, empty, checks), stored, checks.name)


def _is_keras_2(members: Members, name: str) -> bool:
    """Return whether Keras 2 wrote a `.keras` file, which has another format."""
    try:
        metadata = json.loads(members.metadata or b"{}")
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"the metadata in {name} are not valid JSON ({error}); save the model again"
        ) from None
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return isinstance(version, str) and version.startswith("2.")


def _tf_keras(name: str) -> Any:
    if importlib.util.find_spec("tf_keras") is None:
        raise UnsupportedModelError(
            f"{name} is a .keras file of Keras 2, which no other version reads; `pip install "
            "tf_keras`, or save the model there as .h5"
        )
    import tf_keras

    return tf_keras


def _read_hdf5(path: Path, checks: Checks) -> Any:
    with checked(path, checks.name) as file:
        text, stored = _config_text(file, checks.name), weights_in(file)
    config = parse(text, checks.name)
    checks.check(config)
    modern = reworded(config)
    checks.custom_objects = {"TFOpLambda": TensorOperation, **checks.custom_objects}
    _check_weights(json.dumps(modern), Kind.HDF5, stored, checks)
    with staged(path, HDF5, None if modern == config else json.dumps(modern)) as file:
        return _load(keras, file, checks)


def _config_text(file: h5py.File, name: str) -> str | bytes:
    text = file.attrs.get("model_config")
    if isinstance(text, str | bytes):
        return text
    if "model_config" in file.attrs:
        raise ModelLoadError(f"the configuration in {name} is no text; save the model again")
    raise ModelLoadError(
        f"{name} has weights only, and no model: pass the architecture, as in "
        "keras.models.Model.load_weights, or `keras:NAME` with weights=; or save the whole model"
    )


def _load(library: Any, file: Path, checks: Checks) -> Any:
    with loading():
        model = library.models.load_model(
            str(file),
            custom_objects=dict(checks.custom_objects),
            compile=False,
            safe_mode=not checks.allow_unsafe,
        )
    if not isinstance(model, library.Model):
        raise ModelLoadError(
            f"{checks.name} holds a {type(model).__name__}, which is no model; save a whole model"
        )
    return model
