"""Preprocess pictures once for any number of methods."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._ahead import ahead
from xaimaps._arrays import Floats, as_batch
from xaimaps._images.find import find_pictures, is_several
from xaimaps._images.open import MAX_PIXELS, BytesLike, open_picture
from xaimaps._images.picture import Picture
from xaimaps._images.preprocess import PRESETS, Preprocess
from xaimaps._levels import Levels, joined_levels, prepared
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError
from xaimaps.graph import fixed_size, with_size

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Preprocessed images.

    Attributes:
        images: `(N, *spatial, C)`, preprocessed for the model.
        pictures: the pictures, if the images were made from pictures.
        views: the part of each picture that the model sees.
        levels: the same images as levels of 8 bits, if all pictures have such.
    """

    images: Floats
    pictures: tuple[Picture, ...] = ()
    views: tuple[Array, ...] = ()
    levels: Levels | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size of the images."""
        return tuple(self.images.shape[1:-1])

    @property
    def picture_sizes(self) -> tuple[tuple[int, ...], ...]:
        """The height and width of each picture."""
        return tuple(picture.size for picture in self.pictures)


def prepare(
    backend: Backend,
    pictures: Any,
    input_size: tuple[int, ...] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Batch:
    """Open pictures or volumes and preprocess them in threads, with one crop and resize each.

    Args:
        backend: the model.
        pictures: a picture as `open_picture` takes it, a `Picture`, or a list of them.
        input_size: the spatial size, for a model that takes images of any size.
        max_pixels: the largest number of pixels of a picture.

    Raises:
        InputImageError: a picture cannot be read.
        ArrayInputError: there is no picture, or the model's preprocessing or size is unknown.
    """
    preset, size = _file_input(backend, input_size)
    channels = backend.input_shape[-1]

    def alone(picture: Any) -> Batch:
        opened = _opened(picture, max_pixels, len(size))
        opened = opened.with_channels(channels).windowed(preset.window)
        images, levels = prepared(preset, opened, size)
        view = preset.view(opened.pixels, size)
        return Batch(as_batch(images, backend.input_shape), (opened,), (view,), levels)

    listed = _as_list(pictures)
    if len(listed) == 1:
        return alone(listed[0])
    return joined([*ahead(alone, listed, os.cpu_count() or 1, len(listed))])


def require_files(backend: Backend, input_size: tuple[int, ...] | None = None) -> None:
    """Refuse a model of neither images nor volumes, or whose preprocessing or size is unknown.

    Raises:
        ArrayInputError: the model takes no files.
    """
    _file_input(backend, input_size)


def require_pictures(backend: Backend) -> None:
    """Refuse a model of other arrays than images, or whose preprocessing or size is unknown.

    Raises:
        ArrayInputError: the model is none of pictures.
    """
    if len(backend.input_shape) != 3:
        raise ArrayInputError(
            f"pictures are for models of images, but {backend.info.name!r} takes arrays "
            f"{backend.input_shape} of another number of axes; give its files to `explain`, or "
            "arrays to `attribute`"
        )
    require_files(backend)


def _file_input(
    backend: Backend, input_size: tuple[int, ...] | None
) -> tuple[Preprocess, tuple[int, ...]]:
    """Return the preprocessing of a model's pictures or volumes, and its spatial input size."""
    if len(backend.input_shape) not in (3, 4):
        raise ArrayInputError(
            f"files are for models of images and volumes, but {backend.info.name!r} takes arrays "
            f"{backend.input_shape}; give such arrays to `attribute`"
        )
    preset = backend.info.preprocess
    if preset is None:
        raise ArrayInputError(
            f"the preprocessing of the model {backend.info.name!r} is unknown; give "
            f"load(preprocess=...) or --preprocess, one of {', '.join(PRESETS)}"
        )
    return preset, _input_size(backend, input_size)


def drawn_on(images: Floats, pictures: Any) -> Batch:
    """Join preprocessed images with the pictures to draw overlays on, if there are any.

    Raises:
        ArrayInputError: there is not one picture for each image.
    """
    rank = images.ndim - 2
    if pictures is not None and rank not in (2, 3):
        raise ArrayInputError(
            f"`pictures` are for images (N, H, W, C) and volumes, got arrays {images.shape}; leave "
            "them out"
        )
    listed = [] if pictures is None else every_picture(pictures, rank)
    if pictures is not None and len(listed) != len(images):
        raise ArrayInputError(
            f"`pictures` must be one for each of the {len(images)} images, got {len(listed)}; give "
            "a list"
        )
    return Batch(images, views=tuple(_opened(one, MAX_PIXELS, rank).pixels for one in listed))


def joined(batches: Sequence[Batch]) -> Batch:
    """Join batches of images of the same size and preprocessing."""
    return Batch(
        np.concatenate([batch.images for batch in batches]),
        tuple(picture for batch in batches for picture in batch.pictures),
        tuple(view for batch in batches for view in batch.views),
        joined_levels([batch.levels for batch in batches]),
    )


def every_picture(pictures: Any, rank: int = 2) -> list[Any]:
    """Return each picture of a list, a batch in one array, a folder or a pattern of paths."""
    is_batch = getattr(pictures, "ndim", 0) == rank + 2
    return [
        picture
        for one in (pictures if is_batch else _as_list(pictures))
        for picture in (find_pictures([Path(one)], rank=rank) if is_several(one) else [one])
    ]


def _as_list(pictures: Any) -> list[Any]:
    is_one = isinstance(pictures, str | BytesLike | os.PathLike | Picture)
    is_one = is_one or hasattr(pictures, "__array__") or hasattr(pictures, "read")
    listed = [pictures] if is_one or not isinstance(pictures, Iterable) else list(pictures)
    if not listed:
        raise ArrayInputError("`pictures` must hold at least one picture, got an empty list")
    return listed


def _opened(picture: Any, max_pixels: int, rank: int) -> Picture:
    if isinstance(picture, Picture):
        return picture
    return open_picture(picture, max_pixels=max_pixels, rank=rank)


def _input_size(backend: Backend, wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    size = fixed_size(with_size(backend.input_shape, wanted))
    if size is not None:
        return size
    wanted = backend.info.input_size
    if wanted is None:
        raise ArrayInputError(
            "`input_size` must be given, as the model takes images of any size; use "
            "input_size=(height, width) or --input-size"
        )
    return wanted
