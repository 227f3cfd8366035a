"""The image sizes at which a network is analysed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from xaimaps.errors import ArrayInputError, XaimapsError

Size = tuple[int, int]
Trace = Callable[[int, int], object]
"""A function that analyses a network at a height and width, and raises if it does not run there."""

PROBE_BATCH = 2
PROBE_SIZES = (224, 256)
"""Heights and widths at which a model without a fixed size is traced.

A size of a layer that differs between the two traces is one that varies.
"""

OTHER_SIZES = (384, 299, 512, 640, 64, 32, 28, 96, 128, 160)
OTHER_SHAPES = ((48, 320), (32, 320), (64, 256))
"""Sizes, and heights and widths of lines of text, to try if a model runs at none of the others.

Its file declares any size, but the model has a fixed one inside.
"""


def with_size(
    input_shape: Sequence[int | None], input_size: Sequence[int] | None
) -> tuple[int | None, ...]:
    """Return the shape of images, with a user's height and width for those that vary.

    Args:
        input_shape: the declared `(height, width, channels)`, None for a size that varies.
        input_size: the user's height and width; None to keep what is declared.

    Raises:
        ArrayInputError: it is not a height and a width, or not the declared ones.
    """
    if input_size is None:
        return tuple(input_shape)
    sizes = tuple(input_size) if isinstance(input_size, Sequence) else ()
    fits = len(sizes) == 2 and all(map(_fits, sizes, input_shape))
    if not fits:
        wanted = "({}, {})".format(*(size or "any" for size in input_shape[:2]))
        raise ArrayInputError(
            f"`input_size` must be {wanted} for this model, got {input_size!r}; it is the height "
            "and the width of its images"
        )
    return (*sizes, *input_shape[2:])


def _fits(size: Any, declared: int | None) -> bool:
    return isinstance(size, Integral) and int(size) > 0 and declared in (None, size)


def usual_size(input_shape: Sequence[int | None], trace: Trace) -> Size:
    """Return the model's own size, or the first usual size at which it runs.

    A size that is declared free may be fixed inside: by a dense layer after a flattening, or by
    the position embedding of a transformer.

    Raises:
        XaimapsError: it runs at none of them.
    """
    squares = ((size, size) for size in (*PROBE_SIZES, *OTHER_SIZES))
    sizes = list(dict.fromkeys(_filled(input_shape, *one) for one in (*squares, *OTHER_SHAPES)))
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
    sizes = (*((size, size) for size in PROBE_SIZES), (usual[0], usual[1] + 32))
    others = (_filled(input_shape, *one) for one in sizes)
    return next((one for one in others if one != usual and _runs_at(trace, one)), usual)


def _filled(input_shape: Sequence[int | None], height: int, width: int) -> Size:
    """Return the declared height and width, with these for sizes that vary."""
    return input_shape[0] or height, input_shape[1] or width


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
