"""D-RISE's weights and sums by xaitk-saliency's DRISEScoring. Run by hand.

    pip install xaitk-saliency typing_extensions numpy
    PYTHONPATH=. python tests/references/make_d_rise.py tests/references/d_rise.npz

The detector is `detector_network`, whose boxes are decoded here, and the masks are those of `rise`,
which are tested on their own. xaitk adds one pixel to the sides of boxes, which is nothing in units
of a millionth of a pixel. It divides the map by the sum of the masks at each pixel, and then by its
largest value.
"""

import sys

import numpy as np
from xaitk_saliency.impls.gen_detector_prop_sal.drise_scoring import DRISEScoring

from xaimaps.methods.rise import _moved_weights, draw_masks
from xaimaps.testing.networks import detector_network

BOX, UNITS = 20, 1e6


def detections(images):
    """Return rows of corners, objectness and classes, as xaitk takes them."""
    (*_, rows) = detector_network().values(images).values()
    centre, extent, scores = rows[..., :2], rows[..., 2:4], 1 / (1 + np.exp(-rows[..., 4:]))
    corners = np.concatenate([centre - extent / 2, centre + extent / 2], axis=-1) * UNITS
    return np.concatenate([corners, scores], axis=-1)


def main(output):
    draw = np.random.default_rng(0)
    image = draw.normal(size=(1, 9, 9, 3)).astype(np.float32)
    drawn = draw_masks(image.shape[1:], n_masks=30, grid=3)
    rows, columns = _moved_weights(3, 9)[drawn["moves"].T]
    masks = rows @ drawn["cells"] @ columns.swapaxes(1, 2)
    found = DRISEScoring().generate(
        detections(image)[0, [BOX]], detections(masks[..., None] * image), masks
    )
    np.savez_compressed(output, image=image, box=BOX, cover=masks.sum(0), map=found[0])


if __name__ == "__main__":
    main(sys.argv[1])
