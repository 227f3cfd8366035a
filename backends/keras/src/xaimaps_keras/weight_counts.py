"""The number of weights that a model needs, before memory is allocated for them.

Two dense layers with a million units each take two lines of a configuration, and four terabytes.
Keras can build a model without values in a scope, so that their shapes can be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import keras
from keras.src.backend.common import global_state

from xaimaps.errors import ModelLoadError
from xaimaps_keras.limits import FREE, REMEDY

_EMPTY = "uninitialized_variables"
"""Keras's global list of variables without values, which it initialises later."""


def weights_in(file: h5py.File) -> int:
    """Return the number of values in a checked file."""
    sizes: list[int] = []

    def visit(_name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            sizes.append(item.size or 0)

    file.visititems(visit)
    return sum(sizes)


def require_weights(build: Callable[[], Any], stored: int, name: str) -> None:
    """Refuse a model with more weights than its file holds.

    Args:
        build: builds the model; if it fails, the weights built before the failure count.
        stored: the number of values in the file.
        name: the file's name in messages.

    Raises:
        ModelLoadError: the model has more weights.
    """
    asked = _asked_for(build)
    if asked > stored + FREE:
        raise ModelLoadError(
            f"the model in {name} asks for {asked:,} weights, but the file holds {stored:,}; "
            f"{REMEDY}"
        )


def _asked_for(build: Callable[[], Any]) -> int:
    before = global_state.get_global_attribute(_EMPTY)
    global_state.set_global_attribute(_EMPTY, [])
    try:
        # The same failure occurs again, and is reported, when the model is loaded.
        with keras.StatelessScope(initialize_variables=False), suppress(Exception):
            build()
        return sum(math.prod(one.shape) for one in global_state.get_global_attribute(_EMPTY))
    finally:
        # otherwise Keras would later allocate the weights of this model, too
        global_state.set_global_attribute(_EMPTY, before)
