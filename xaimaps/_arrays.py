"""Checks of a user's arrays against the model's input, before any computation."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.errors import ArrayInputError

Floats = np.ndarray[Any, np.dtype[np.float32]]


def as_batch(images: Any, input_shape: tuple[int | None, ...]) -> Floats:
    """Return a user's array as a batch of model inputs.

    Numbers of any real type are converted to float32 but not scaled, because the array is
    expected to be preprocessed for the model.

    Args:
        images: `(N, *spatial, C)`, or `(*spatial, C)` for one image; any byte order and memory
            layout.
        input_shape: the model's `(*spatial, C)`, None for a size that varies.

    Returns:
        `(N, *spatial, C)` float32 in native byte order, contiguous.

    Raises:
        ArrayInputError: the rank, shape or type is wrong, or a value is not finite in float32.
    """
    array = _as_numbers(images)
    if array.ndim == len(input_shape):
        array = array[None]
    check_shape(array.shape, input_shape)
    with np.errstate(over="ignore"):  # an overflow is reported below, with the image's index
        batch: Floats = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(batch).all(axis=tuple(range(1, batch.ndim)))
    if not finite.all():
        bad = np.flatnonzero(~finite).tolist()
        raise ArrayInputError(
            f"images must be finite in float32, but image {bad[0]} has NaN or infinity "
            f"({len(bad)} of {len(batch)} images do); leave them out"
        )
    return batch


def _as_numbers(images: Any) -> np.ndarray[Any, Any]:
    if isinstance(images, np.ma.MaskedArray):
        raise ArrayInputError("images must not be masked; fill the masked values first")
    try:
        array = np.asarray(images)
    except ValueError:
        raise ArrayInputError("images must be one array, got lists of unequal lengths") from None
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ArrayInputError(f"images must be real numbers, got {array.dtype}; convert to float32")
    return array


def check_shape(shape: tuple[int, ...], input_shape: tuple[int | None, ...]) -> None:
    """Raise an ArrayInputError unless a batch has the shape of the model's inputs."""
    fits = len(shape) == len(input_shape) + 1 and all(
        want is None or have == want for have, want in zip(shape[1:], input_shape, strict=True)
    )
    if fits and 0 not in shape[1:]:
        return
    wanted = ", ".join("any" if size is None else str(size) for size in input_shape)
    advice = "resize or preprocess them first"
    channels = input_shape[-1]
    is_first = len(shape) == len(input_shape) + 1 and shape[1] == channels != shape[-1]
    if is_first:
        advice = f"move the channels last, with numpy.moveaxis(images, {-len(input_shape)}, -1)"
    raise ArrayInputError(f"images must have shape (N, {wanted}), got {shape}; {advice}")
