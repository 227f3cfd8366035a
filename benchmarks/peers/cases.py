"""What is measured: methods, their options, and how many passes they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.networks import Array, Network

Calls = dict[str, Callable[[], Any]]
"""What explains the images, by the name of the method here; `FORWARD` is the network alone."""

Make = Callable[[Network, Array, str], Calls]
"""What makes the calls for a network, images and a precision."""

FORWARD = "forward"
CLASS = 285
"""The class that is explained: of the networks that are trained, "Egyptian cat"."""

STEPS, SAMPLES, MASKS, WINDOW, STRIDE = 50, 50, 512, 32, 16
WINDOWS = ((224 - WINDOW) // STRIDE + 1) ** 2
AT_ONCE = 8
"""How many images Captum passes at once within a method; the other libraries choose themselves."""

OPTIONS: dict[str, dict[str, Any]] = {
    "saliency": {},
    "grad_cam": {},
    "grad_cam_plusplus": {},
    "integrated_gradients": {"n_steps": STEPS},
    "smoothgrad": {"n_samples": SAMPLES},
    "score_cam": {},
    "ablation_cam": {},
    "occlusion": {"window": WINDOW, "stride": STRIDE},
    "rise": {"n_masks": MASKS},
}
"""The methods by the name here, with the options that every library gets in its own words."""

GRADIENT = 3
"""About how many forward passes a forward and backward pass takes."""


def passes(method: str, channels: int) -> int:
    """Return about how many forward passes a method takes for one image.

    Args:
        method: a key of `OPTIONS`, or `FORWARD`.
        channels: the number of feature maps.
    """
    known = {
        "saliency": GRADIENT,
        "integrated_gradients": STEPS * GRADIENT,
        "smoothgrad": SAMPLES * GRADIENT,
        "score_cam": channels + 1,
        "ablation_cam": channels + 1,
        "occlusion": WINDOWS + 1,
        "rise": MASKS + 1,
    }
    return known.get(method, 1)
