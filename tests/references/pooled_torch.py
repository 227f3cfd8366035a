"""`xaimaps.testing.pooled_network` in PyTorch, for the scripts of this folder."""

import torch
from torch import nn

from xaimaps.testing import pooled_network


def network(gain=1, **options):
    """Return the network, with scores that are larger by a gain."""
    layers = pooled_network(**options).layers
    first, second = (nn.Conv2d(*n, 3) for n in ((3, 6), (6, 6)))
    head = nn.Linear(6, 5)
    for own, name in ((first, "conv1"), (second, "conv2")):
        own.weight.data = torch.tensor(layers[name].kernel).permute(3, 2, 0, 1).contiguous()
        own.bias.data = torch.tensor(layers[name].bias)
    head.weight.data = gain * torch.tensor(layers["fc"].weights.T.copy())
    head.bias.data = torch.tensor(layers["fc"].bias)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *pool, head).eval()
