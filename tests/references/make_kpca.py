"""KPCA-CAM by pytorch-grad-cam, with scikit-learn's kernels. Run by hand.

    pip install torch grad-cam scikit-learn
    python tests/references/make_kpca.py OUTPUT

The network and the image are those of make_layer_integrated_gradients.py, which stores its weights.
"""

import sys

import numpy as np
import torch
from make_layer_integrated_gradients import LAYERS, network, pattern
from pytorch_grad_cam import KPCA_CAM

KERNELS = {"sigmoid": None, "rbf": 0.5, "cosine": None}


def main(output):
    model, found = network(), {}
    batch = torch.tensor(pattern((1, 2, 6, 6), 5, 3, 25) + 3 / 16)
    for name, place in LAYERS.items():
        values = model[: place + 1](batch).detach().numpy()
        for kernel, gamma in KERNELS.items():
            cam = KPCA_CAM(model, [model[place]], kernel=kernel, gamma=gamma)
            arguments = (batch, model[place], [], values.copy(), None, False)
            found[f"{kernel}/{name}"] = cam.get_cam_image(*arguments)[0]
    np.savez_compressed(output, **found)


if __name__ == "__main__":
    main(sys.argv[1])
