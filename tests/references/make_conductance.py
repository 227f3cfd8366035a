"""Conductance, internal influence and FEM by Captum and pytorch-grad-cam. Run by hand.

    pip install torch captum grad-cam
    python tests/references/make_conductance.py OUTPUT

The network and the image are those of make_layer_integrated_gradients.py, which stores its weights.
Captum's conductance leaves out both ends of the path, so that it needs many points.
"""

import sys

import numpy as np
import torch
from captum.attr import InternalInfluence, LayerConductance
from make_layer_integrated_gradients import LAYERS, TARGET, network, pattern
from pytorch_grad_cam import FEM

MANY = 4000
RARE = 1.0


def shown(values):
    return values.detach().numpy()[0].transpose(1, 2, 0)


def main(output):
    model, found = network(), {}
    batch = torch.tensor(pattern((1, 2, 6, 6), 5, 3, 25) + 3 / 16)
    for name, place in LAYERS.items():
        layer, zeros = model[place], torch.zeros_like(batch)
        options = {"baselines": zeros, "target": TARGET}
        found[f"layer_conductance/{name}"] = shown(
            LayerConductance(model, layer).attribute(
                batch, n_steps=MANY, method="riemann_left", **options
            )
        )
        found[f"internal_influence/{name}"] = shown(
            InternalInfluence(model, layer).attribute(batch, n_steps=50, **options)
        )
    cam = FEM(model, [model[4]], k=RARE)
    values = model[:5](batch).detach().numpy()
    found["fem/relu2"] = cam.get_cam_image(batch, model[4], [], values, None, False)[0]
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(sys.argv[1])
