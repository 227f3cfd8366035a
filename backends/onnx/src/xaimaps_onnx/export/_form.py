"""The forms of a map in an exported file."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps._results.render import COLORMAP, colour_table
from xaimaps.backend import Array, Backend
from xaimaps.methods._resize import resized
from xaimaps_onnx.export._traced import Traced

Form = Literal["raw", "input", "normalised"]


def formed(backend: Backend, maps: Array, form: Form, size: tuple[int, ...]) -> Array:
    """Return maps raw, at the size of the input, or that with values from 0 to 1.

    Args:
        backend: of the maps.
        maps: `(..., *spatial)`.
        form: which of these.
        size: that of the input.
    """
    if form == "raw":
        return maps
    xp, maps = backend.xp, resized(backend, maps, size)
    if form == "input":
        return maps
    positive, axes = xp.maximum(maps, xp.zeros_like(maps)), tuple(range(-len(size), 0))
    return divided(xp, positive, xp.max(positive, axis=axes, keepdims=True))


def coloured(xp: Any, maps: Traced) -> Traced:
    """Return normalised maps in colours, `(..., 3)` uint8, by a table in the file."""
    table: np.ndarray[Any, Any] = np.asarray(colour_table(COLORMAP), np.uint8)
    index = xp.astype(xp.round(maps * 255), np.int64)
    return maps.recorder.emit("Gather", [table, index], table[index.value], axis=0)
