"""Find the adapter of a model by the package of its class."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
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
    """Return whether Keras, which is imported, computes with JAX."""
    used: str = sys.modules["keras"].config.backend()
    return used == "jax"
