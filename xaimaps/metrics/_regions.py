"""Where the object is in each picture: masks or boxes, brought to the model's input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xaimaps._images.open import open_picture
from xaimaps._images.picture import Picture
from xaimaps._images.preprocess import Preprocess
from xaimaps._prepare import Batch
from xaimaps.backend import Backend
from xaimaps.errors import ArrayInputError, InputImageError
from xaimaps.metrics._case import Array


def regions_of(regions: Any, batch: Batch, backend: Backend) -> Array:
    """Return the region of each picture in the model's input, `(N, H, W)`.

    Args:
        regions: a folder of masks, a JSON file in COCO's format, or a list of masks `(H, W)`.
        batch: the pictures.
        backend: the model, whose preprocessing crops and resizes the regions too.

    Raises:
        InputImageError: a picture has no region in the files, or a file cannot be read.
        ArrayInputError: the pictures are volumes; or a mask has another size than its picture, or
            is empty in the input.
    """
    if len(batch.size) != 2:
        raise ArrayInputError(
            f"`regions` are for pictures, got volumes of {batch.size}; give masks of the model's "
            "input to `measure`"
        )
    preset = backend.info.preprocess
    assert preset is not None, "pictures are refused without it"
    masks = _masks(regions, batch.pictures)
    found = [
        _seen(mask, picture, preset, batch.size)
        for mask, picture in zip(masks, batch.pictures, strict=True)
    ]
    return np.stack(found)


def masks_of(regions: Any, shape: tuple[int, ...]) -> Array:
    """Return masks that are already in the model's input, `(N, *spatial)`.

    Raises:
        ArrayInputError: they have another shape than the images, or one is empty.
    """
    masks = np.asarray(regions, bool)
    if masks.shape != shape or not masks.reshape(len(masks), -1).any(axis=1).all():
        raise ArrayInputError(
            f"`regions` must be masks of shape {shape}, each with a position of the object, got "
            f"shape {masks.shape}"
        )
    return masks


def _masks(regions: Any, pictures: Sequence[Picture]) -> list[Array]:
    if not isinstance(regions, str | Path):
        masks = [np.asarray(one, bool) for one in regions]
        if len(masks) != len(pictures):
            raise ArrayInputError(
                f"`regions` must be one mask for each of the {len(pictures)} pictures, got "
                f"{len(masks)}"
            )
        return masks
    path = Path(regions)
    if path.is_dir():
        return [_mask_file(path, picture) for picture in pictures]
    boxes = _coco(path)
    return [_boxes_mask(boxes, picture, path) for picture in pictures]


def _mask_file(folder: Path, picture: Picture) -> Array:
    """Return the mask with the picture's name, of any format; nonzero is the object."""
    stem = Path(picture.source).stem
    found = sorted(one for one in folder.iterdir() if one.stem == stem)
    if len(found) != 1:
        raise InputImageError(
            f"the folder {str(folder)!r} must have one mask named {stem!r}, got {len(found)}; a "
            "mask has the name of its picture"
        )
    return np.asarray(open_picture(found[0]).pixels.any(axis=-1))


def _coco(path: Path) -> dict[str, list[list[float]]]:
    """Return the boxes x, y, width, height by the name of the picture."""
    try:
        content = json.loads(path.read_text())
        names = {one["id"]: Path(one["file_name"]).name for one in content["images"]}
        found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
        for one in content["annotations"]:
            x, y, width, height = map(float, one["bbox"])
            found[names[one["image_id"]]].append([x, y, width, height])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputImageError(
            f"regions must be a folder of masks, or a JSON file with COCO's images and annotations "
            f"with a bbox, got {str(path)!r} ({type(error).__name__}: {error})"
        ) from error
    return found


def _boxes_mask(boxes: dict[str, list[list[float]]], picture: Picture, path: Path) -> Array:
    name = Path(picture.source).name
    if not boxes.get(name):
        raise InputImageError(f"{str(path)!r} has no box for the picture {name!r}; add one")
    mask = np.zeros(picture.pixels.shape[:2], bool)
    for x, y, width, height in boxes[name]:
        left, top = max(0, round(x)), max(0, round(y))
        mask[top : max(0, round(y + height)), left : max(0, round(x + width))] = True
    return mask


def _seen(mask: Array, picture: Picture, preset: Preprocess, size: tuple[int, ...]) -> Array:
    """Crop or pad a mask as the picture, and take the nearest pixel for each of the input's."""
    shape = picture.pixels.shape[:2]
    if mask.shape != shape:
        raise ArrayInputError(
            f"the region of {picture.source!r} must have the picture's size {shape}, got "
            f"{mask.shape}"
        )
    view = preset.view(mask[..., None].astype(np.uint8), (size[0], size[1]))[..., 0]
    rows, columns = map(_nearest, view.shape, size)
    found: Array = view[np.ix_(rows, columns)] > 0
    if not found.any():
        raise ArrayInputError(
            f"the region of {picture.source!r} is outside of what the model sees; use fit='pad' "
            "(--fit pad), or leave the picture out"
        )
    return found


def _nearest(count: int, wanted: int) -> Array:
    """Return the pixel that is nearest to each of `wanted` pixels along an axis."""
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(int)
