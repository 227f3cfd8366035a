"""Tools for tests of xaimaps and of other backends: a numpy backend and small networks."""

from typing import TYPE_CHECKING, Any

from xaimaps.testing.networks import (
    Cells,
    Conv,
    Dense,
    Flatten,
    GlobalAveragePool,
    Network,
    ReLU,
    detector_network,
    one_conv_network,
    pooled_network,
)
from xaimaps.testing.reference import REFERENCE_METHODS, ReferenceBackend

if TYPE_CHECKING:
    from xaimaps.testing.conformance import BackendConformance

__all__ = [
    "REFERENCE_METHODS",
    "BackendConformance",
    "Cells",
    "Conv",
    "Dense",
    "Flatten",
    "GlobalAveragePool",
    "Network",
    "ReLU",
    "ReferenceBackend",
    "detector_network",
    "one_conv_network",
    "pooled_network",
]


def __getattr__(name: str) -> Any:
    """Import the conformance suite on first use, because only it needs pytest."""
    if name != "BackendConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xaimaps.testing.conformance import BackendConformance

    return BackendConformance
