"""Segments: the pixels of an image as the players of a game, by a label for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._options import check_count
from xaimaps.methods._superpixels import superpixels

Ints = np.ndarray[Any, np.dtype[np.int32]]

MOST = 1000
"""The most segments: each of them takes passes, and a row of a matrix of all pairs."""

Segments = int | tuple[int, ...] | str | Array
"""Cells along each axis, one number or one for each; a kind of superpixels; a label by pixel."""


def labels_of(size: tuple[int, ...], segments: Segments, images: Any = None) -> Ints:
    """Return the number of each pixel's segment, from 0 and without gaps.

    Args:
        size: of the images.
        segments: the user's choice.
        images: the only image, for superpixels.

    Raises:
        MethodError: `segments` is none of these, or makes fewer than two segments or too many.
    """
    if isinstance(segments, str):
        labels = superpixels(segments, images)
    else:
        labels = _given(size, segments) if hasattr(segments, "shape") else _cells(size, segments)
    found = np.unique(labels, return_inverse=True)[1].reshape(size).astype(np.int32)
    count = int(found.max()) + 1
    if not 2 <= count <= MOST:
        raise MethodError(f"`segments` must make 2 to {MOST} segments, got {count}")
    return found


def _given(size: tuple[int, ...], labels: Array) -> np.ndarray[Any, Any]:
    found = np.asarray(labels)
    if found.shape != size or found.dtype.kind not in "iu":
        raise MethodError(
            f"`segments` must be an array of integers of shape {size}, a label for each pixel of "
            f"the model's input, got {found.dtype} of shape {found.shape}"
        )
    return found


def _cells(size: tuple[int, ...], cells: int | tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Number the cells of a grid; an axis of fewer pixels has a cell for each of them."""
    counts = list(cells) if isinstance(cells, tuple | list) else [cells] * len(size)
    for one in counts:
        check_count("segments", one)
    if len(counts) != len(size):
        raise MethodError(
            f"`segments` must be one number of cells or one for each of {len(size)} axes, "
            f"got {cells!r}"
        )
    counts = [min(count, n) for count, n in zip(counts, size, strict=True)]
    places = [np.arange(n) * count // n for n, count in zip(size, counts, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), counts)


def masks_of(xp: Any, coalitions: Array, labels: Array) -> Array:
    """Return the value of each pixel's segment: `(..., M)` becomes `(..., *spatial)`."""
    values = xp.take(coalitions, xp.reshape(labels, (-1,)), axis=-1)
    return xp.reshape(values, (*coalitions.shape[:-1], *labels.shape))


def segment_means(backend: Backend, images: Array, labels: Array, count: int) -> Array:
    """Return images in which every segment has its mean colour, `(N, H, W, C)`."""
    xp, axes = backend.xp, tuple(range(1, len(images.shape) - 1))

    def paint(painted: Array, label: Array) -> tuple[Array, None]:
        inside = xp.astype(labels == label, images.dtype)[None, ..., None]
        means = xp.sum(images * inside, axis=axes, keepdims=True) / xp.sum(inside)
        return painted + inside * means, None

    painted, _ = backend.scan(paint, xp.zeros_like(images), xp.arange(count, dtype=labels.dtype))
    return painted
