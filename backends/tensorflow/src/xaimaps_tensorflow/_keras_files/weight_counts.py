"""How many weights a model asks for, found before there is room made for any of them.

Two dense layers of a million units each take two lines of a configuration, and four terabytes.
Keras builds a model without values in a scope of its own, so that their shapes can be counted.
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
from xaimaps_tensorflow._keras_files.limits import FREE, REMEDY

_EMPTY = "uninitialized_variables"
"""Where Keras notes variables without values, to make them later."""


def weights_in(file: h5py.File) -> int:
    """The number of values that a checked file holds."""
    sizes: list[int] = []

    def visit(_name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            sizes.append(item.size or 0)

    file.visititems(visit)
    return sum(sizes)


def require_weights(build: Callable[[], Any], stored: int, name: str) -> None:
    """Refuse a model that asks for more weights than its file holds.

    Args:
        build: what builds the model; if it fails, what it has built by then counts.
        stored: how many the file holds.
        name: what messages call the file.

    Raises:
        ModelLoadError: it does.
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
        # A failure comes again when the model is loaded, and is told then.
        with keras.StatelessScope(initialize_variables=False), suppress(Exception):
            build()
        return sum(math.prod(one.shape) for one in global_state.get_global_attribute(_EMPTY))
    finally:
        global_state.set_global_attribute(_EMPTY, before)  # or Keras would make ours, too
