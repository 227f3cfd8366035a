"""Preprocess pictures once for any number of methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps._arrays import Floats, as_batch
from xaimaps._images.open import Picture, open_picture
from xaimaps._images.preprocess import PRESETS, Pixels, Preprocess
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError
from xaimaps.graph import with_size

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Preprocessed images.

    Attributes:
        images: `(N, H, W, C)`, preprocessed for the model.
        pictures: the pictures, if the images were made from pictures.
        views: the part of each picture that the model sees.
    """

    images: Floats
    pictures: tuple[Picture, ...] = ()
    views: tuple[Array, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """The height and width of the images."""
        return self.images.shape[1], self.images.shape[2]


def prepare(
    backend: Backend,
    pictures: Any,
    input_size: tuple[int, int] | None = None,
    max_pixels: int = 64_000_000,
) -> Batch:
    """Open pictures and preprocess them, with one crop and one resize each.

    Args:
        backend: the model.
        pictures: a path, a Pillow image, an array of pixels, a `Picture`, or a list of them.
        input_size: height and width, for a model that takes images of any size.
        max_pixels: the largest number of pixels of a picture.

    Raises:
        InputImageError: a picture cannot be read.
        ArrayInputError: there is no picture, or the model's preprocessing or size is unknown.
    """
    preset = backend.info.preprocess
    if preset is None:
        raise ArrayInputError(
            f"the preprocessing of the model {backend.info.name!r} is unknown; give "
            f"load(preprocess=...) or --preprocess, one of {', '.join(PRESETS)}"
        )
    opened = tuple(_opened(picture, max_pixels) for picture in _as_list(pictures))
    size = _input_size(backend, input_size)
    views = tuple(preset.view(picture.pixels, size) for picture in opened)
    images = np.stack([_input(preset, view, size, backend.input_shape[2]) for view in views])
    return Batch(as_batch(images, backend.input_shape), opened, views)


def _input(preset: Preprocess, view: Pixels, size: tuple[int, int], channels: int | None) -> Floats:
    """Convert a view to one input; for a model of one channel, its grey levels.

    The grey level is Pillow's, 0.299 R + 0.587 G + 0.114 B.
    """
    if channels != 1:
        return preset.prepared(view, size)
    if len({*preset.mean}) > 1 or len({*preset.std}) > 1:
        raise ArrayInputError(
            "`preprocess` must scale all channels alike for a model of one channel, got "
            f"{preset.name!r}; use unit, tf or raw"
        )
    from PIL import Image

    grey = np.asarray(Image.fromarray(np.ascontiguousarray(view)).convert("L"))
    return preset.prepared(np.repeat(grey[..., None], 3, axis=-1), size)[..., :1]


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches of images of the same size."""
    return Batch(
        np.concatenate([batch.images for batch in batches]),
        tuple(picture for batch in batches for picture in batch.pictures),
        tuple(view for batch in batches for view in batch.views),
    )


def _as_list(pictures: Any) -> list[Any]:
    one = isinstance(pictures, str | os.PathLike | Picture) or hasattr(pictures, "__array__")
    listed = [pictures] if one or not isinstance(pictures, Iterable) else list(pictures)
    if not listed:
        raise ArrayInputError("`pictures` must hold at least one picture, got an empty list")
    return listed


def _opened(picture: Any, max_pixels: int) -> Picture:
    return picture if isinstance(picture, Picture) else open_picture(picture, max_pixels=max_pixels)


def _input_size(backend: Backend, wanted: tuple[int, int] | None) -> tuple[int, int]:
    channels = backend.input_shape[2]
    if channels not in (None, 1, 3):
        raise ArrayInputError(
            f"pictures have three channels, or one of grey levels, but the model takes {channels}; "
            "prepare arrays yourself and use attribute"
        )
    height, width, _ = with_size(backend.input_shape, wanted)
    if height is not None and width is not None:
        return height, width
    wanted = backend.info.input_size
    if wanted is None:
        raise ArrayInputError(
            "`input_size` must be given, as the model takes images of any size; use "
            "input_size=(height, width) or --input-size"
        )
    return wanted
