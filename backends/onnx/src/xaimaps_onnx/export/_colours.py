"""The colours of a map, alone and over the picture, as outputs of the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps._images.preprocess import Preprocess
from xaimaps._results.render import ALPHA, COLORMAP, colour_table
from xaimaps.errors import OutputError
from xaimaps_onnx.export._traced import Traced


def coloured(xp: Any, maps: Traced) -> Traced:
    """Return normalised maps in colours, `(..., 3)` uint8, by a table in the file."""
    table: np.ndarray[Any, Any] = np.asarray(colour_table(COLORMAP), np.uint8)
    return xp.take(table, xp.astype(xp.round(maps * 255), np.int64), axis=0)  # type: ignore[no-any-return]


def overlaid(xp: Any, colours: Traced, images: Traced, prepare: Preprocess | None) -> Traced:
    """Return colours blended into the pictures that the images were made of, `(..., 3)` uint8.

    Raises:
        OutputError: the pictures are not known.
    """
    if prepare is None or prepare.native or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise OutputError(
            "`overlay` needs the model's preprocessing of pictures of one or three channels, to "
            "draw the picture; give `preprocess`, or add the heat map instead"
        )
    pixels = _pixels(xp, images, prepare)
    blended = pixels * (1 - ALPHA) + xp.astype(colours, np.float32) * ALPHA
    return xp.astype(xp.round(blended), np.uint8)  # type: ignore[no-any-return]


def _pixels(xp: Any, images: Traced, prepare: Preprocess) -> Traced:
    """Return the pixels of preprocessed images, from 0 to 255."""
    std, mean = np.asarray(prepare.std, np.float32), np.asarray(prepare.mean, np.float32)
    values = (images * std + mean) / prepare.scale
    values = xp.flip(values, axis=-1) if prepare.channels == "BGR" else values
    return xp.round(xp.minimum(xp.maximum(values, 0), 255))  # type: ignore[no-any-return]
