"""Layer integrated gradients by Captum, of a small network. Run by hand; no test imports it.

    pip install torch captum
    python tests/references/make_layer_integrated_gradients.py OUTPUT

Convolution, ReLU, maximum, convolution, ReLU, mean, dense, in float64. Every weight and pixel is a
multiple of 1/16, so that float32 has it exactly.
"""

import sys

import numpy as np
import torch
from captum.attr import LayerIntegratedGradients
from torch import nn

TARGET = 1
LAYERS = {"relu1": 1, "pool": 2, "relu2": 4}


def pattern(shape, a, b, modulus=23):
    """Fixed multiples of 1/16."""
    k = np.arange(np.prod(shape))
    return (((k * k * a + k * b + a) % modulus - modulus // 2) / 16).reshape(shape)


def network():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    for n, parameter in enumerate(model.parameters()):
        values = pattern(tuple(parameter.shape), 3 + 2 * (n % 5), 7 + 3 * (n % 4))
        parameter.data = torch.tensor(values)
    return model


def main(output):
    model = network()
    image = pattern((1, 2, 6, 6), 5, 3, 25) + 3 / 16
    names = ("k1", "b1", "k2", "b2", "w", "b")
    values = {n: p.detach().numpy() for n, p in zip(names, model.parameters(), strict=True)}
    values |= {"images": np.moveaxis(image, 1, -1), "target": np.array(TARGET)}
    batch = torch.tensor(image)
    for name, place in LAYERS.items():
        method = LayerIntegratedGradients(model, model[place])
        found = method.attribute(batch, torch.zeros_like(batch), target=TARGET, n_steps=50)
        values[name] = found.detach().numpy()[0].transpose(1, 2, 0)
    np.savez_compressed(output, **values)


if __name__ == "__main__":
    main(sys.argv[1])
