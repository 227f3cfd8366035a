"""Overlapping regions of an image, and the pixels that they have in common.

Felzenszwalb's superpixels at several scales overlap. Pixels that lie in the same regions are one
part, so that a sum over a region is a sum over its few parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from xaimaps._registry import import_extra
from xaimaps.errors import MethodError
from xaimaps.methods._segments import Segments, labels_of

Array = np.ndarray[Any, Any]

SCALES = (50, 100, 150, 250, 500, 1200)
SIDE = 224
"""The size of the image for which the scales and the other numbers are."""

MOST_PIXELS = 16
"""The most pixels of a part; a table of large parts would be mostly padding."""


def regions_of(size: tuple[int, ...], segments: Segments, images: Any = None) -> dict[str, Array]:
    """Return the regions of each image, or those of all images.

    Args:
        size: of the images.
        segments: the user's choice; see `labels_of`.
        images: `(N, H, W, C)`, for superpixels.

    Returns:
        `labels` `(N, *size)`, the part of each pixel; `pixels` `(N, P, 16)`, the pixels of each
        part in the order of their labels, or the number of all pixels where a part has fewer;
        `members` `(N, P, S)`, the regions of each part. P and S are rounded up, so that similar
        pictures share a compiled program; the regions and parts that are added have no pixels.

    Raises:
        MethodError: see `labels_of`.
    """
    if isinstance(segments, str) and segments == "felzenszwalb":
        found = [parts_of(_superpixels(image, size)) for image in _pictures(images)]
    else:
        labels = labels_of(size, segments, images)
        found = [parts_of(labels.reshape(-1) == np.arange(labels.max() + 1)[:, None])]
    return {
        "labels": np.stack([one[0] for one in found]).reshape(-1, *size),
        "pixels": _stacked([one[1] for one in found], math.prod(size)),
        "members": _stacked([one[2] for one in found], 0),
    }


def _pictures(images: Any) -> Array:
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise MethodError(
            "`segments` must be a grid or an array of labels here, got 'felzenszwalb', which needs "
            "pictures, outside of compiled programs; call the method by `xaimaps.attribute`"
        )
    return images


def _superpixels(image: Array, size: tuple[int, ...]) -> Array:
    """Return the superpixels of all scales, enlarged by 5 pixels, `(S, pixels)`."""
    needed = ("skimage.segmentation", "skimage.morphology", "skimage.transform")
    by, morphology, transform = (
        import_extra(name, "superpixels", "`segments='felzenszwalb'`", MethodError)
        for name in needed
    )
    low, extent = image.min(), np.ptp(image)
    scaled = (image.astype(np.float64) - low) / (extent or 1) * 2 - 1
    if size != (SIDE, SIDE):
        scaled = transform.resize(scaled, (SIDE, SIDE), order=3, mode="constant")
    layers = [by.felzenszwalb(scaled, scale=s, sigma=0.8, min_size=150) for s in SCALES]
    masks = [layer == label for layer in layers for label in range(layer.max() + 1)]
    rows, columns = (np.arange(n) * SIDE // n for n in size)
    large = [morphology.isotropic_dilation(mask, 5)[rows][:, columns] for mask in masks]
    return np.stack(large).reshape(len(large), -1)


def parts_of(masks: Array) -> tuple[Array, Array, Array]:
    """Divide pixels into parts by the masks `(S, pixels)` in which they lie.

    Returns:
        See `regions_of`, for one image.
    """
    kinds = np.unique(np.packbits(masks, axis=0), axis=1, return_inverse=True)[1].reshape(-1)
    order = np.argsort(kinds, kind="stable")
    first = np.searchsorted(kinds[order], kinds[order])
    column = (np.arange(order.size) - first) % MOST_PIXELS
    part = np.cumsum(column == 0) - 1
    pixels = np.full((part[-1] + 1, MOST_PIXELS), order.size, np.int32)
    pixels[part, column] = np.arange(order.size)
    labels = np.empty(order.size, np.int32)
    labels[order] = part
    return labels, pixels, masks[:, order[pixels[:, 0]]].T.astype(np.float32)


def _stacked(arrays: Sequence[Array], filling: int) -> Array:
    """Stack arrays `(n, m)` of different sizes, padded to sizes of three significant bits."""
    size = [_rounded_up(max(one.shape[axis] for one in arrays)) for axis in (0, 1)]
    padded = np.full((len(arrays), *size), filling, arrays[0].dtype)
    for row, one in zip(padded, arrays, strict=True):
        row[: one.shape[0], : one.shape[1]] = one
    return padded


def _rounded_up(count: int) -> int:
    step = 1 << max(0, (count - 1).bit_length() - 3)
    return -(-count // step) * step
