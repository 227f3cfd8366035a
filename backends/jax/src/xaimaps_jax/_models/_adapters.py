"""Find the adapter of a model by the package of its class."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from xaimaps_jax._models._given import Given
from xaimaps_jax._models._model import Model

ADAPTERS: Mapping[str, str] = {
    "flax.linen": "linen",
    "flax.nnx": "nnx",
    "equinox": "equinox",
    "haiku": "haiku",
    "keras": "keras",
}
"""The module of this package for a class in each package, or below it."""

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


class Adapter(Protocol):
    """The interface of the modules of this package."""

    def adapt(self, model: Any, given: Given) -> Model:
        """Return a model as a function.

        Args:
            model: the model.
            given: what the user gave with it.
        """


def is_model(model: object) -> bool:
    """Return whether an object is a model of a library that has an adapter."""
    return _adapter_name(model) is not None


def adapt(model: object, given: Given) -> Model:
    """Return a model as a function of its parameters and images."""
    adapter = cast(Adapter, importlib.import_module(f"{__package__}._{_adapter_name(model)}"))
    return adapter.adapt(model, given)


def is_keras_file(model: object) -> bool:
    """Return whether a path is of a Keras file, and Keras computes with JAX."""
    is_file = isinstance(model, str | os.PathLike) and Path(model).suffix.lower() in KERAS_SUFFIXES
    return is_file and _is_keras_on_jax() and importlib.util.find_spec("xaimaps_keras") is not None


def _adapter_name(model: object) -> str | None:
    packages = [f"{base.__module__}." for base in type(model).__mro__]
    found = (
        name
        for package in packages
        for prefix, name in ADAPTERS.items()
        if package.startswith(f"{prefix}.")
    )
    name = next(found, None)
    return None if name == "keras" and not _is_keras_on_jax() else name


def _is_keras_on_jax() -> bool:
    """Return whether Keras computes with JAX, or will when it is imported."""
    if (keras := sys.modules.get("keras")) is None:
        return os.environ.get("KERAS_BACKEND") == "jax"
    used: str = keras.config.backend()
    return used == "jax"
