"""The forms of the maps of exported files, and their comparison with those of a backend."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError, UnsupportedModelError
from xaimaps.methods import Method
from xaimaps.methods._resize import resized
from xaimaps.parity._measures import measure, tolerance_of

Form = Literal["raw", "input", "normalised"]


def require_form(form: object) -> None:
    """Refuse what is no form.

    Raises:
        MethodError: it is another value.
    """
    if form not in get_args(Form):
        raise MethodError(f"`form` must be 'raw', 'input' or 'normalised', got {form!r}")


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


def require_same(
    found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], row: Method, reference: Backend
) -> float:
    """Return the relative difference of the maps of an exported file.

    Args:
        found: those of the file.
        expected: those of the method on the backend, in the same form.
        row: the method.
        reference: the backend.

    Raises:
        UnsupportedModelError: the difference is beyond the tolerance of the method.
    """
    measures, tolerance = measure(found, expected, rank=False), tolerance_of(row)
    if not tolerance.allows(measures):
        raise UnsupportedModelError(
            f"the map of the exported file differs from {row.name} on {reference.name!r} by "
            f"{measures.relative:.1e} of its largest value, more than {tolerance} allows, so that "
            "nothing was written; explain the model with that backend instead"
        )
    return measures.relative
