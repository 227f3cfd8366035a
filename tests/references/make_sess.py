"""SESS by pytorch-grad-cam. Run by hand.

    pip install torch grad-cam
    python tests/references/make_sess.py tests/references/sess.npz

The network is xaimaps.testing.pooled_network. The library's blur mirrors the map at the border;
here OpenCV's Gaussian is renormalised there, and as large for this image as the library's is for
224 pixels.
"""

import sys

import cv2
import numpy as np
import torch
from pooled_torch import network
from pytorch_grad_cam import SESS, GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

SIDE, TARGET, RADIUS, SIGMA = 45, 3, 1, 45 * 5 / 224


def blurred(heat):
    size = (2 * RADIUS + 1,) * 2
    ways = (cv2.GaussianBlur(x, size, SIGMA, borderType=0) for x in (heat, np.ones_like(heat)))
    return np.divide(*ways)


def main(output):
    draw, model = np.random.default_rng(0), network(size=SIDE)
    image = draw.normal(size=(SIDE, SIDE, 3)).astype(np.float32)
    image[10:18, 25:40] += (3, -2, 1)
    image = np.round(image * 8) / 8
    batch, found = torch.tensor(image).permute(2, 0, 1)[None], {"image": image}
    for name, options in {"whole": {}, "filtered": {"pre_filter_ratio": 0.6}}.items():
        own = SESS(model, [model[3]], base_method=GradCAM, num_scales=5, smooth=False, **options)
        heat = own.forward_single_image(batch, ClassifierOutputTarget(TARGET))
        found[name] = blurred(heat)
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(sys.argv[1])
