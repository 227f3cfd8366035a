"""The image sizes at which a network is analysed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from xaimaps.errors import ArrayInputError, XaimapsError

Size = tuple[int, ...]
Trace = Callable[..., object]
"""A function that analyses a network at a spatial size, and raises if it does not run there."""

PROBE_BATCH = 2
PROBE_SIZES = {1: (1000, 1024), 2: (224, 256), 3: (64, 96)}
"""The sides at which a model without a fixed size is traced, by the number of spatial axes.

A size of a layer that differs between the two traces is one that varies.
"""

OTHER_SIZES = {
    1: (128, 256, 512, 2048, 4096, 187, 3000, 5000, 16000),
    2: (384, 299, 512, 640, 64, 32, 28, 96, 128, 160),
    3: (32, 16, 28, 48, 80, 128),
}
OTHER_SHAPES = ((48, 320), (32, 320), (64, 256))
"""Sides, and heights and widths of lines of text, to try if a model runs at none of the others.

Its file declares any size, but the model has a fixed one inside.
"""

MAX_ELEMENTS = 2**31
"""The largest number of elements of one image, as XLA and TensorFlow index with 32 bits."""


def with_size(
    input_shape: Sequence[int | None], input_size: Sequence[int] | None
) -> tuple[int | None, ...]:
    """Return the shape of images, with a user's spatial size for what varies.

    Args:
        input_shape: the declared `(*spatial, channels)`, None for a size that varies.
        input_size: the user's spatial size; None to keep what is declared.

    Raises:
        ArrayInputError: it has another number of axes, is not the declared one, or is too large.
    """
    if input_size is None:
        return tuple(input_shape)
    sizes = tuple(input_size) if isinstance(input_size, Sequence) else ()
    declared = input_shape[:-1]
    fits = len(sizes) == len(declared) and all(map(_fits, sizes, declared))
    if not fits:
        wanted = ", ".join(str(size or "any") for size in declared)
        raise ArrayInputError(
            f"`input_size` must be ({wanted}) for this model, got {input_size!r}; it is the size "
            "of its images without their channels"
        )
    if (elements := math.prod(sizes) * (input_shape[-1] or 1)) >= MAX_ELEMENTS:
        raise ArrayInputError(
            f"`input_size` must make images of less than {MAX_ELEMENTS:,} elements, got "
            f"{elements:,} for {input_size!r}; give a smaller size"
        )
    return (*sizes, input_shape[-1])


def fixed_size(input_shape: Sequence[int | None]) -> Size | None:
    """Return the spatial size of images `(*spatial, channels)`; None if a part of it varies."""
    known = tuple(size for size in input_shape[:-1] if size is not None)
    return known if len(known) == len(input_shape) - 1 else None


def _fits(size: Any, declared: int | None) -> bool:
    return isinstance(size, Integral) and int(size) > 0 and declared in (None, size)


def usual_size(input_shape: Sequence[int | None], trace: Trace) -> Size:
    """Return the model's own size, or the first usual size at which it runs.

    A size that is declared free may be fixed inside: by a dense layer after a flattening, or by
    the position embedding of a transformer.

    Raises:
        XaimapsError: it runs at none of them.
    """
    rank = len(input_shape) - 1
    cubes = ((side,) * rank for side in (*PROBE_SIZES[rank], *OTHER_SIZES[rank]))
    shapes = OTHER_SHAPES if rank == 2 else ()
    sizes = list(dict.fromkeys(_filled(input_shape, one) for one in (*cubes, *shapes)))
    errors = []
    for size in sizes:
        try:
            trace(*size)
        except XaimapsError as error:
            errors.append(error)
        else:
            return size
    raise _with_advice(errors)


def other_size(input_shape: Sequence[int | None], trace: Trace, usual: Size) -> Size:
    """Return another size at which the model runs, or the usual one if there is no other."""
    rank = len(usual)
    cubes = ((side,) * rank for side in PROBE_SIZES[rank])
    others = (_filled(input_shape, one) for one in (*cubes, (*usual[:-1], usual[-1] + 32)))
    return next((one for one in others if one != usual and _runs_at(trace, one)), usual)


def _filled(input_shape: Sequence[int | None], size: Size) -> Size:
    """Return the declared spatial size, with another one for what varies."""
    return tuple(declared or side for declared, side in zip(input_shape, size, strict=False))


def _runs_at(trace: Trace, size: Size) -> bool:
    try:
        trace(*size)
    except XaimapsError:
        return False
    return True


def _with_advice(errors: Sequence[XaimapsError]) -> XaimapsError:
    """Return the error of the first size; if others were tried, with what to do."""
    first = errors[0]
    if len(errors) == 1:
        return first
    return type(first)(
        f"{first}; if the model runs at one size only, give that one by `input_size`, the "
        "`input_shape` of a function, or --input-size"
    )
