"""The values of a model's other inputs than the images, which the user gives by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._input_pictures import InputPicture, shape_text
from xaimaps.errors import ArrayInputError, UnsupportedModelError, nearest

Array = np.ndarray[Any, Any]
Declared = tuple[str, Sequence[int | None], Any]
"""The name, shape and type of an input."""


def read_inputs(
    given: Mapping[str, Any], size: tuple[int, ...] | None = None
) -> dict[str, Array | InputPicture]:
    """Return the values of inputs as arrays, those of `.npy` files included, or pictures.

    Args:
        given: the values; the path of another file than `.npy` is that of a picture.
        size: the spatial size of pictures, for inputs of any size.

    Raises:
        ArrayInputError: a value is not an array of numbers, or its file cannot be read.
    """
    if not isinstance(given, Mapping):
        raise ArrayInputError(
            f"`inputs` must be a dictionary of values by the names of inputs, got {given!r:.200}"
        )
    return {name: _read(name, value, size) for name, value in given.items()}


def _read(name: str, value: Any, size: tuple[int, ...] | None) -> Array | InputPicture:
    if _is_file(value) and not os.fspath(value).lower().endswith(".npy"):
        return _picture(name, value, size)
    return _numbers(name, _opened(name, value))


def _picture(name: str, value: Any, size: tuple[int, ...] | None) -> InputPicture:
    file = os.fspath(value)
    if not Path(file).is_file():
        raise ArrayInputError(
            f"the input {name!r} must be numbers, a .npy file or a picture, got {file!r}, which is "
            "no file; check the path"
        )
    return InputPicture(file, size=size)


def _is_file(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _opened(name: str, value: Any) -> Any:
    if not _is_file(value):
        return value
    try:
        return np.load(value, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArrayInputError(
            f"the input {name!r} must be numbers or a .npy file, got {os.fspath(value)!r} "
            f"({error}); check the path"
        ) from None


def _numbers(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)  # lists of unequal lengths
    if array.dtype.kind not in "biuf":
        raise ArrayInputError(
            f"the input {name!r} must be an array of numbers, got {value!r:.200}; give a number, a "
            "list or an array"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ArrayInputError(
            f"the input {name!r} must be finite, got NaN or infinity; replace these values"
        )
    return array


def recorded_inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of inputs as JSON values; a file stays the path of the file."""
    return {
        name: os.fspath(value) if _is_file(value) else np.asarray(value).tolist()
        for name, value in given.items()
    }


def require_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse values of inputs that a model does not have.

    Raises:
        ArrayInputError: a name is not that of an input.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise ArrayInputError(
                f"`inputs` must name inputs of the model, which are {', '.join(map(repr, names))}, "
                f"got {name!r}{nearest(name, names)}"
            )


def require_single(left: Sequence[Declared]) -> None:
    """Refuse a model unless one input, the images, is left without a value.

    Raises:
        UnsupportedModelError: there are several, or there is none.
    """
    if len(left) == 1:
        return
    listed = " and ".join(f"{name!r} {shape_text(shape)} {dtype}" for name, shape, dtype in left)
    remedy = "give the values of the others by inputs={NAME: VALUE}, or --input NAME=VALUE"
    raise UnsupportedModelError(
        "an image model must have one input without a value, the images to explain, got "
        f"{listed or 'none'}; {remedy if left else 'give no value of the images'}"
    )


def as_row(
    name: str, value: Array | InputPicture, shape: Sequence[int | None], dtype: Any
) -> Array:
    """Return a user's value of an input in the declared shape and type.

    Axes of size 1 at the front may be left out or added.

    Args:
        name: the input's name.
        value: the value, or the picture that is prepared for the shape.
        shape: the declared shape, without the axis of the images; None for any size.
        dtype: the declared type.

    Raises:
        ArrayInputError: the value has another shape, or the type cannot hold it.
    """
    numbers = value.array(name, shape) if isinstance(value, InputPicture) else value
    fitted = _with_rank(numbers, len(shape))
    fits = fitted.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, fitted.shape, strict=True)
    )
    if not fits:
        raise ArrayInputError(
            f"the input {name!r} must have the shape {shape_text(shape)}, got {numbers.shape}; "
            "give the value for one image"
        )
    typed = fitted.astype(dtype)
    if typed.dtype.kind in "biu" and not np.array_equal(typed, fitted):
        raise ArrayInputError(
            f"the input {name!r} must be numbers that {typed.dtype} can hold, got "
            f"{numbers.ravel()[:5].tolist()}; round them first"
        )
    return typed


def _with_rank(value: Array, rank: int) -> Array:
    """Return a value with axes of size 1 at the front added or left out."""
    front = value.ndim - rank
    is_longer = front > 0 and set(value.shape[:front]) == {1}
    return value.reshape(value.shape[front:] if is_longer else (1,) * -front + value.shape)
