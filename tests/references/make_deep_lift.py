"""DeepLIFT by SHAP's DeepExplainer, of a small network with max pooling. Run by hand.

    pip install torch shap
    python tests/references/make_deep_lift.py OUTPUT

The network is two padded convolutions with ReLU, max pooling between them, global average pooling
and a dense layer. Values are in float64, channels last. Captum is not used: its DeepLift is not
complete behind max pooling (https://github.com/meta-pytorch/captum/issues/1276).
"""

import sys

import numpy as np
import shap
import torch
from torch import nn

random = np.random.default_rng(8)
IMAGES = random.normal(size=(2, 8, 8, 3)).astype(np.float32)
BASELINES = np.concatenate(
    [np.zeros((1, 8, 8, 3), np.float32), random.normal(size=(2, 8, 8, 3)).astype(np.float32)]
)
TARGET = 1


def network():
    """The network with seeded weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
    ).double()  # fmt: skip
    for value in model.parameters():
        new = random.normal(size=tuple(value.shape), scale=0.5).astype(np.float32)
        value.data = torch.tensor(new).double()
    return model.eval()


def native(images):
    """The images as PyTorch takes them."""
    return torch.tensor(images.transpose(0, 3, 1, 2)).double()


if __name__ == "__main__":
    model = network()
    explain = shap.DeepExplainer(model, native(BASELINES))
    one = shap.DeepExplainer(model, native(BASELINES[1:2]))
    found = {
        key: np.asarray(each.shap_values(native(IMAGES), check_additivity=False))[..., TARGET]
        for key, each in {"several": explain, "one": one}.items()
    }
    weights = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    maps = {key: value.transpose(0, 2, 3, 1) for key, value in found.items()}
    np.savez_compressed(
        sys.argv[1], images=IMAGES, baselines=BASELINES, target=TARGET, **maps, **weights
    )
