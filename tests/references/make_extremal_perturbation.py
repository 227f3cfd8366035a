"""Extremal perturbations by the classes of TorchRay. Run by hand.

    pip install torch torchvision torchray matplotlib
    python tests/references/make_extremal_perturbation.py OUTPUT

The network is xaimaps.testing.pooled_network, with weights that tell parts of the image apart.
TorchRay's function blurs by up to 20 pixels for any size, so its loop is written here once more,
for a smaller image. The area's ones go to the largest values; of equal ones, which differ by
rounding errors, each has the same part of them.
"""

import sys

import numpy as np
import torch
from pooled_torch import network
from torchray.attribution.extremal_perturbation import MaskGenerator, Perturbation

SIDE, TARGET, AREA = 48, 3, 0.2
STEP, SIGMA, BLUR = 2, 4.5, SIDE * 20 / 224
STEPS, GAIN, TIE = (1, 12), 30, 1e-4


def picture():
    image = np.random.default_rng(0).normal(size=(SIDE, SIDE, 3)) / 2
    image[8:20, 25:40] += (3, -2, 1)
    image[30:40, 5:15] += (-1, 2, 3)
    return (np.round(image * 8) / 8).astype(np.float32)


def shared(values, count):
    """Give ones to the `count` largest values, and equal parts to those that are equal."""
    least = values.sort()[0][len(values) - count]
    above, equal = values > least + TIE, (values - least).abs() <= TIE
    return above + equal * (count - above.sum()) / equal.sum()


def main(output):
    image, model, found = picture(), network(GAIN, size=SIDE).requires_grad_(False), {}
    batch = torch.tensor(image).permute(2, 0, 1)[None]
    levels, masks = Perturbation(batch, max_blur=BLUR), MaskGenerator((SIDE, SIDE), STEP, SIGMA)
    cells = torch.ones(1, 1, *masks.shape_in)
    pixels, scores, weight = int(np.prod(masks.shape_out)), [], 300
    count = pixels - int(pixels * (1 - AREA))
    optimizer = torch.optim.SGD([cells], lr=0.01, momentum=0.9, dampening=0.9)
    for turn in range(max(STEPS)):
        inner, whole = masks.generate(cells.requires_grad_())
        seen = levels.apply(inner)
        score = model(torch.flip(seen, dims=(3,)) if turn % 2 == 0 else seen)[0, TARGET]
        values = whole.reshape(-1)
        energy = score - ((values - shared(values.detach(), count)) ** 2).mean() * weight
        optimizer.zero_grad()
        (-energy).backward()
        optimizer.step()
        cells.data, weight = cells.data.clamp(0, 1), weight * 1.0035
        scores.append(score.item())
        if turn + 1 in STEPS:
            found[str(turn + 1)] = masks.generate(cells)[0][0, 0].detach().numpy()
    np.savez_compressed(output, image=image, scores=scores, **found)


if __name__ == "__main__":
    main(sys.argv[1])
