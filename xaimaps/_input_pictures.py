"""Pictures as the values of a model's other inputs than the explained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from xaimaps._images.open import open_picture
from xaimaps._images.preprocess import Preprocess, seen_notes
from xaimaps.errors import ArrayInputError, InputImageError

Array = np.ndarray[Any, Any]

CHANNELS = (1, 2, 3, 4)
"""The numbers of channels by which the axis of the channels is found."""


@dataclass(frozen=True)
class InputPicture:
    """A picture file, which is prepared for the shape that a model declares for an input.

    Attributes:
        file: its path.
        preprocess: the preprocessing of the model; None until it is known, for zeros.
        size: the spatial size for an input of any size; None if it is unknown.
        notes: what to know about how the picture was read and cropped, once it is.
    """

    file: str
    preprocess: Preprocess | None = None
    size: tuple[int, ...] | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    def array(self, name: str, shape: Sequence[int | None]) -> Array:
        """Return the picture as one value of an input.

        Args:
            name: the input.
            shape: its declared shape, without the axis of the images.

        Raises:
            ArrayInputError: the input takes no picture, or one of an unknown size.
            InputImageError: the file cannot be read.
        """
        is_first = _is_channels_first(name, self.file, shape)
        channels, declared = (shape[0], shape[1:]) if is_first else (shape[-1], shape[:-1])
        size = self._size(name, declared)
        if self.preprocess is None:
            values = np.zeros((*size, channels or 3), np.float32)
        else:
            picture = _opened(name, self.file, len(size)).with_channels(channels)
            values = self.preprocess.of_picture(picture.windowed(self.preprocess.window), size)
            view = self.preprocess.view(picture.pixels, size)
            said = (*picture.notes, *seen_notes(picture.size, view, size))
            self.notes[:] = (f"the input {name!r}: {note}" for note in said)
        return np.moveaxis(values, -1, 0) if is_first else values

    def _size(self, name: str, declared: Sequence[int | None]) -> tuple[int, ...]:
        known = tuple(size for size in declared if size is not None)
        if len(known) == len(declared):
            return known
        if self.size is None or len(self.size) != len(declared):
            raise ArrayInputError(
                f"the input {name!r} takes pictures of any size; give `input_size` (--input-size)"
            )
        return self.size


def prepared(
    values: Mapping[str, Array | InputPicture], preprocess: Preprocess | None, model: str
) -> dict[str, Array | InputPicture]:
    """Return the values of inputs, with the preprocessing of the pictures among them.

    Raises:
        ArrayInputError: the preprocessing is unknown.
    """
    if preprocess is None:
        raise ArrayInputError(
            f"the preprocessing of the model {model!r} is unknown, which pictures as inputs need; "
            "give `preprocess` (--preprocess)"
        )
    return {
        name: replace(value, preprocess=preprocess) if isinstance(value, InputPicture) else value
        for name, value in values.items()
    }


def require_numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse pictures as the values of a function, which declares no shapes.

    Raises:
        ArrayInputError: a value is a picture.
    """
    for name, value in values.items():
        if isinstance(value, InputPicture):
            raise ArrayInputError(
                f"the input {name!r} of a function must be numbers or a .npy file, got the file "
                f"{value.file!r}; prepare the picture, and give the array"
            )
    return values


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a declared shape for messages."""
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _opened(name: str, file: str, rank: int) -> Any:
    try:
        return open_picture(file, rank=rank)
    except InputImageError as error:
        raise InputImageError(f"the input {name!r}: {error}") from error


def _is_channels_first(name: str, file: str, shape: Sequence[int | None]) -> bool:
    """Return whether the channels are the first axis, as in most ONNX files."""
    if len(shape) not in (3, 4) or not {shape[0], shape[-1]} & set(CHANNELS):
        raise ArrayInputError(
            f"the input {name!r} must take a picture, such as (3, height, width), but its shape is "
            f"{shape_text(shape)}, got the file {file!r}; give numbers or a .npy file"
        )
    return shape[0] in CHANNELS
