"""Another input as the explained one, while the picture becomes one of the values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._images.open import MAX_PIXELS
from xaimaps._inputs import read_inputs
from xaimaps._plan import default_methods, plan_all
from xaimaps._prepare import Batch, prepare
from xaimaps._run import Job
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError, nearest
from xaimaps.methods import METHODS, get_method

VECTOR_METHODS = ("saliency", "input_x_gradient", "integrated_gradients")
"""The methods for a vector, unless the user names others without a layer."""


def require_given(backend: Backend, names: Sequence[str]) -> None:
    """Refuse names of inputs that have no value to explain.

    Raises:
        ArrayInputError: a name is not that of an input with a value.
    """
    known = list(backend.info.inputs)
    for name in names:
        if name not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise ArrayInputError(
                f"--explained must name an input of --input or --each, which are {listed}, got "
                f"{name!r}{nearest(name, known)}"
            )


def swapped(
    backend: Backend, name: str, picture: Path, max_pixels: int = MAX_PIXELS
) -> tuple[Backend, Batch]:
    """Return the model that is explained by another of its inputs, and the value of that input.

    Args:
        backend: the model that is explained by a picture.
        name: an input with a value.
        picture: the picture, which becomes the value of the model's own input.
        max_pixels: the largest number of pixels of a picture.

    Raises:
        ArrayInputError: the inputs of the model have no names, or the value is an array of pixels.
    """
    values = dict(backend.info.inputs)
    value = values.pop(name)
    if not backend.info.input or backend.reload is None:
        raise ArrayInputError(
            f"--explained {name} needs an ONNX file or a Keras model, whose inputs have names, got "
            f"{backend.info.name!r}; give the picture as a value, and explain {name!r} in Python"
        )
    other = backend.reload(inputs={**values, backend.info.input: os.fspath(picture)})
    if other.info.is_vector:
        numbers = np.asarray(read_inputs({name: value})[name], np.float32)
        return other, Batch(numbers.reshape(1, -1, 1))
    if not isinstance(value, str) or value.lower().endswith(".npy"):
        raise ArrayInputError(
            f"--explained {name} needs the file of a picture as its value, got {value!r:.200}; "
            f"give --input {name}=FILE"
        )
    return other, prepare(other, value, max_pixels=max_pixels)


def plan_swapped(
    backend: Backend, named: Sequence[str], options: Mapping[str, Any], default: Sequence[str]
) -> list[Job]:
    """Plan the methods of the picture for another input, each on its default layer.

    A vector has no layers with a spatial extent, so it gets the methods that have no layer.

    Args:
        backend: the model that is explained by the other input.
        named: the methods that the user names.
        options: the options of the methods.
        default: the methods for a picture if the user names none.
    """
    names = list(METHODS) if "all" in named else list(named)
    if backend.info.is_vector:
        names = [name for name in names if not get_method(name).takes_layer]
    if not names or "all" in named:
        usual = VECTOR_METHODS if backend.info.is_vector else default
        names = default_methods(backend, names or usual)
    taken = {option for name in names for option in get_method(name).options}
    own = {name: value for name, value in options.items() if name in taken}
    return plan_all(backend, names, None, own)
