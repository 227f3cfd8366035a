"""Opti-CAM in PyTorch, with its Adam and its resize. Run by hand; no test imports it.

    pip install torch captum
    python tests/references/make_opti_cam.py OUTPUT

The network and the image are those of make_layer_integrated_gradients.py, which stores its weights.
The loop is that of the authors' code, https://github.com/hangsheng/Opti-CAM, without its early end.
"""

import sys

import numpy as np
import torch
from make_layer_integrated_gradients import LAYERS, TARGET, network, pattern
from torch.nn import functional

N_STEPS, RATE = 30, 0.1


def opti_cam(model, image, activations):
    """Return the map, and the score of the masked image before each step."""
    logits = torch.full((1, activations.shape[1], 1, 1), 0.5, dtype=torch.float64)
    optimizer = torch.optim.Adam([logits.requires_grad_()], lr=RATE)
    scores = []
    for _ in range(N_STEPS):
        size = image.shape[2:]
        small = (logits.softmax(1) * activations).sum(1, keepdim=True)
        large = functional.interpolate(small, size, mode="bilinear", align_corners=False)
        mask = (large - large.min()) / (large.max() - large.min())
        score = model(image * mask)[0, TARGET]
        scores.append(score.item())
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
    return (logits.softmax(1) * activations).sum(1)[0].detach().numpy(), scores


def main(output):
    model, found = network(), {}
    image = torch.tensor(pattern((1, 2, 6, 6), 5, 3, 25) + 3 / 16)
    for name, place in LAYERS.items():
        activations = model[: place + 1](image).detach()
        maps, scores = opti_cam(model, image, activations)
        found |= {name: maps, f"{name}/scores": np.array(scores)}
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(sys.argv[1])
