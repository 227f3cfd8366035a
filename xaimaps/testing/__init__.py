"""For tests, of xaimaps and of backends elsewhere: a numpy backend and nets worked out by hand."""

from xaimaps.testing.networks import (
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Network,
    ReLU,
    one_conv_network,
    pooled_network,
)
from xaimaps.testing.reference import ReferenceBackend

__all__ = [
    "Conv",
    "Dense",
    "Flatten",
    "GlobalAveragePool",
    "Network",
    "ReLU",
    "ReferenceBackend",
    "one_conv_network",
    "pooled_network",
]
