"""XRAI by PAIR's saliency library. Run by hand.

    pip install saliency scikit-image pillow
    python tests/references/make_xrai.py xaimaps/zoo/chelsea.png tests/references/xrai.npz

Of the superpixels of a photograph, the file has the number that covers each pixel. The maps are of
rectangles that overlap, in a smaller image; the least number of added pixels is that of its size.
"""

import sys

import numpy as np
from PIL import Image
from saliency.core import XRAI, XRAIParameters
from saliency.core.xrai import _get_segments_felzenszwalb

SIDE, LEAST = 56, 3


def crop(path):
    return np.asarray(Image.open(path).convert("RGB"))[40:264, 120:344] / 127.5 - 1


def rectangles(draw):
    masks = np.zeros((40, SIDE, SIDE), bool)
    for mask in masks:
        (top, bottom), (left, right) = np.sort(draw.integers(0, SIDE + 1, (2, 2)))
        mask[top:bottom, left:right] = True
    return masks


def main(picture, output):
    draw = np.random.default_rng(0)
    masks, base = rectangles(draw), draw.normal(size=(SIDE, SIDE)).astype(np.float32)
    base += np.linspace(-1, 1, SIDE, dtype=np.float32)
    cover = np.sum(_get_segments_felzenszwalb(crop(picture)), axis=0).astype(np.uint8)
    found = {"masks": masks, "base": base, "cover": cover}
    for algorithm in ("full", "fast"):
        settings = XRAIParameters(algorithm=algorithm)
        settings.experimental_params["min_pixel_diff"] = LEAST
        given = {"base_attribution": base[..., None], "segments": list(masks)}
        image = np.zeros((SIDE, SIDE, 1))
        mask = XRAI().GetMask(image, None, **given, extra_parameters=settings)
        found[algorithm] = mask.astype(np.float32)
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
