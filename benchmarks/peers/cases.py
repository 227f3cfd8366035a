"""What is measured: methods, their options, and how many passes they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.networks import Array, Network

Calls = dict[str, Callable[[], Any]]
"""What explains the images, by the name of the method here; `FORWARD` is the network alone."""

FORWARD = "forward"
CLASS = 285
"""The class that is explained: of the networks that are trained, "Egyptian cat"."""

AT_ONCE = 8
"""How many images Captum passes at once within a method; the other libraries choose themselves."""

GRADIENT = 3
"""About how many forward passes a forward and backward pass takes."""

WINDOW = 32
"""The height and width of the windows of occlusion, in pixels."""


@dataclass(frozen=True)
class Length:
    """How many passes the methods take that repeat one.

    Attributes:
        steps: those of integrated gradients.
        samples: those of SmoothGrad.
        masks: those of RISE.
        stride: the pixels from one window of occlusion to the next.
    """

    steps: int
    samples: int
    masks: int
    stride: int

    @property
    def repeated(self) -> dict[str, dict[str, Any]]:
        """The methods whose passes it is about, and their options, which every library gets."""
        return {
            "integrated_gradients": {"n_steps": self.steps},
            "smoothgrad": {"n_samples": self.samples},
            "occlusion": {"window": WINDOW, "stride": self.stride},
            "rise": {"n_masks": self.masks},
        }

    def passes(self, method: str, channels: int) -> int:
        """Return about how many forward passes a method takes for one image.

        Args:
            method: one of `METHODS`, or `FORWARD`.
            channels: the number of feature maps.
        """
        known = {
            "saliency": GRADIENT,
            "integrated_gradients": self.steps * GRADIENT,
            "smoothgrad": self.samples * GRADIENT,
            "score_cam": channels + 1,
            "ablation_cam": channels + 1,
            "occlusion": ((224 - WINDOW) // self.stride + 1) ** 2 + 1,
            "rise": self.masks + 1,
        }
        return known.get(method, 1)


METHODS = (
    *("saliency", "grad_cam", "grad_cam_plusplus", "integrated_gradients", "smoothgrad"),
    *("score_cam", "ablation_cam", "occlusion", "rise"),
)
"""The methods by the name here."""

FULL = "full"
LENGTHS = {
    FULL: Length(steps=50, samples=50, masks=512, stride=16),
    "short": Length(steps=10, samples=10, masks=64, stride=32),
}
"""`short` is for large networks on a CPU, whose passes take so long that no other cost counts."""

Make = Callable[[Network, Array, str, Length], Calls]
"""What makes the calls for a network, images, a precision and the number of passes."""
