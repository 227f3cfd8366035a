"""Shapley-CAM by pytorch-grad-cam, of a small network with SiLU. Run by hand; no test imports it.

    pip install torch grad-cam
    python tests/references/make_shapley_cam.py OUTPUT

The network is smooth, so that its Hessian is not zero: two convolutions with SiLU, global average
pooling, SiLU, a dense layer. Maps are in float64, before clipping and rescaling.
"""

import sys

import numpy as np
import torch
from pytorch_grad_cam import ShapleyCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, ClassifierOutputTarget
from torch import nn

TARGETS = (3, 1)
SCORES = {"residual": ClassifierOutputReST, "logit": ClassifierOutputTarget}


class Raw(ShapleyCAM):
    """Keeps the map as it is before clipping and rescaling."""

    def get_cam_image(self, *args):
        self.raw = super().get_cam_image(*args)
        return self.raw


def network(weights):
    """The network with these weights, in float64."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 8, 3), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.SiLU(), nn.Linear(8, 5),
    ).double()  # fmt: skip
    for parameter, value in zip(model.parameters(), weights.values(), strict=True):
        parameter.data = torch.tensor(value)
    return model


def main(output):
    draw = np.random.default_rng(0).normal
    shapes = {"k1": (6, 3, 3, 3), "b1": (6,), "k2": (8, 6, 3, 3), "b2": (8,)}
    shapes |= {"w": (5, 8), "b": (5,)}
    weights = {n: draw(size=s, scale=np.prod(s[1:]) ** -0.5) for n, s in shapes.items()}
    weights["w"] *= 4
    images = draw(size=(2, 9, 9, 3))
    model = network(weights)
    values = {**weights, "images": images, "targets": np.array(TARGETS)}
    batch = torch.tensor(images).permute(0, 3, 1, 2)
    for layer, module in {"first": model[1], "last": model[3]}.items():
        for score, kind in SCORES.items():
            with Raw(model=model, target_layers=[module]) as cam:
                cam(batch, [kind(target) for target in TARGETS])
                values[f"{score}/{layer}"] = cam.raw
    np.savez_compressed(output, **values)


if __name__ == "__main__":
    main(sys.argv[1])
