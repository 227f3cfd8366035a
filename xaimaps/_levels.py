"""Images as levels of 8 bits and a table of the input values, a quarter of the bytes to copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps._arrays import Floats
from xaimaps._images.picture import Picture, Pixels
from xaimaps._images.preprocess import Preprocess
from xaimaps.backend import Array


@dataclass(frozen=True)
class Levels:
    """Preprocessed images before the arithmetic of the preprocessing.

    The input value of a level is that of the table, which has been computed on the host, so that
    it is the same number wherever it is looked up.

    Attributes:
        values: `(N, H, W, C)`, in the model's channel order.
        table: the input value of each level and channel, `(256, C)`.
    """

    values: Pixels
    table: Floats


def prepared(
    preset: Preprocess, picture: Picture, size: tuple[int, ...]
) -> tuple[Floats, Levels | None]:
    """Return a picture as one input `(1, *size, C)`, and as levels if it has 8 bits.

    Args:
        preset: the preprocessing.
        picture: a picture or volume with the model's channels.
        size: the model's spatial size.

    Raises:
        XaimapsError: see `Preprocess.of_picture`.
    """
    pixels = None if preset.native or len(size) != 2 else picture.levels()
    if pixels is None or pixels.dtype != np.uint8:
        return preset.of_picture(picture, size)[None], None
    resized = preset.resized(pixels, size)[None]
    return preset.values(resized), Levels(preset.levels(resized), preset.table(resized.shape[-1]))


def joined_levels(parts: Sequence[Levels | None]) -> Levels | None:
    """Return the levels of several batches with one preprocessing, or None if one has none."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Levels(np.concatenate([part.values for part in known]), known[0].table)


def looked_up(xp: Any, levels: Array, table: Array) -> Array:
    """Return the input values of levels `(N, H, W, C)`, in a program.

    Args:
        xp: the namespace of the arrays.
        levels: as integers.
        table: see `Levels`.
    """
    count = table.shape[1]
    places = xp.astype(levels, xp.int32) * count + xp.arange(count, dtype=xp.int32)
    found = xp.take(xp.reshape(table, (-1,)), xp.reshape(places, (-1,)), axis=0)
    return xp.reshape(found, levels.shape)
