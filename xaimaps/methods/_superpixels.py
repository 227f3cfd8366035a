"""Superpixels of one image, by scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps._registry import import_extra
from xaimaps.errors import MethodError
from xaimaps.methods._options import check_choice

Array = np.ndarray[Any, Any]

KINDS: dict[str, Callable[[Any, Array], Array]] = {
    "slic": lambda by, image: by.slic(image, n_segments=50),
    # LIME's settings.
    "quickshift": lambda by, image: by.quickshift(
        image, kernel_size=4, max_dist=200, ratio=0.2, convert2lab=image.shape[-1] == 3
    ),
    "felzenszwalb": lambda by, image: by.felzenszwalb(image, scale=200, sigma=0.8, min_size=150),
}


def superpixels(kind: str, images: Any) -> Array:
    """Return a label for each pixel of the only image of a batch `(1, H, W, C)`.

    Raises:
        MethodError: there is no such kind, scikit-image is not installed, or the images are not one
            image in numpy.
    """
    check_choice("segments", kind, KINDS)
    if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != 1:
        raise MethodError(
            f"`segments` must be a grid or an array of labels here, got {kind!r}, which needs one "
            "picture, outside of compiled programs; call the method by `xaimaps.attribute`"
        )
    module = import_extra(
        "skimage.segmentation", "superpixels", f"`segments={kind!r}`", MethodError
    )
    image = images[0].astype(np.float64)
    low, extent = image.min(), np.ptp(image)
    return np.asarray(KINDS[kind](module, (image - low) / (extent or 1)))
