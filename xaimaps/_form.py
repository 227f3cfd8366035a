"""The forms that exported programs give their maps."""

from __future__ import annotations

from typing import Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.methods._resize import resized

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
