"""For tests, of xaimaps and of backends elsewhere: a numpy backend and nets worked out by hand."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from xaimaps.testing.conformance import BackendConformance

__all__ = [
    "BackendConformance",
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


def __getattr__(name: str) -> Any:
    """The suite is imported when it is asked for: it needs pytest, the rest does not."""
    if name != "BackendConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from xaimaps.testing.conformance import BackendConformance

    return BackendConformance
