"""Masks of another size than the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import TargetError

if TYPE_CHECKING:
    from xaimaps.targets._scene import Scene

Array = np.ndarray[Any, Any]
Size = tuple[int, ...]


def fitted(mask: Array, scene: Scene, axis: int) -> Array:
    """Bring a mask to the outputs' size: each weight is the mean of what it covers.

    A mask of the picture's size is cropped or padded as the picture; one of the size of the model's
    input is not.

    Args:
        mask: `(h, w)`, or one for each image, `(N, h, w)`.
        scene: the model and the images.
        axis: that of the classes in the outputs.

    Returns:
        A mask of the outputs' size, as it is; else one for each image, `(N, h, w)`.

    Raises:
        TargetError: the mask has another size than the outputs, the input and a picture, or what
            the model sees of it is empty.
    """
    if scene.planes.ndim != 4 or (mask.ndim == 3 and len(mask) != len(scene.images)):
        return mask  # refused later, as outputs without positions, or as another batch
    wanted: Size = np.moveaxis(scene.planes, axis, -1).shape[1:3]
    if mask.shape[-2:] == wanted:
        return mask
    each = np.broadcast_to(mask, (len(scene.images), *mask.shape[-2:]))
    seen = (_seen(one, scene, index, wanted) for index, one in enumerate(each))
    found = np.stack([_averaged(one, wanted) for one in seen])
    empty = np.flatnonzero(~found.reshape(len(found), -1).any(axis=1))
    if empty.size:
        raise TargetError(
            f"`mask` must have a part that the model sees, got none for image {empty[0]}; use "
            "fit='pad' (--fit pad)"
        )
    return found


def _seen(mask: Array, scene: Scene, index: int, wanted: Size) -> Array:
    """Return the part of a mask that the model sees."""
    if mask.shape == scene.size:
        return mask
    size = scene.picture_sizes[index] if scene.picture_sizes else None
    if mask.shape != size:
        of_picture = f", or of its picture {size}" if size else ""
        raise TargetError(
            f"`mask` must have the size of the outputs {wanted}, of the model's input {scene.size}"
            f"{of_picture}, got {mask.shape}"
        )
    preset = scene.backend.info.preprocess
    assert preset is not None, "pictures are refused without it"
    return preset.view(mask[..., None].astype(np.float32), scene.size)[..., 0]


def _averaged(mask: Array, wanted: Size) -> Array:
    rows, columns = (_shares(n, m) for n, m in zip(mask.shape, wanted, strict=True))
    averaged: Array = (rows @ mask @ columns.T).astype(np.float32)
    return averaged


def _shares(count: int, wanted: int) -> Array:
    """Return the share of each of `count` pixels in each of `wanted` pixels, as rows of a sum 1."""
    edges = np.arange(wanted + 1)[:, None] * count / wanted
    pixels = np.arange(count)
    overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares: Array = np.maximum(overlap, 0) * wanted / count
    return shares
