"""Blur IG: integrated gradients along a path of decreasing blur."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._batching import (
    align_targets,
    gradients_of,
    variants_within,
    weighted_sum,
    zero_maps,
)
from xaimaps.methods._filters import gaussian
from xaimaps.methods._maps import Maps, Reduce, complete, named, native
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Xu et al. 2020, arXiv:2004.03383",
    cost="(n_steps + 2) F + n_steps B",
)
def blur_ig(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    n_steps: int = 100,
    max_sigma: float = 50,
    reduce: Reduce = "sum",
    memory: float | None = None,
) -> Maps:
    r"""The gradient integrated from a blurred image to the sharp one, without a baseline.

    With $L(\sigma)$ the image blurred by a Gaussian of width $\sigma$, zero outside of the image:

    $$M_{ij} = -\sum_c \int_0^{\sigma_{max}} \frac{\partial y}{\partial x_{ijc}}\big(L(\sigma)\big)
      \frac{\partial L_{ijc}}{\partial \sigma}\, d\sigma$$

    No baseline has to be chosen. The derivative of the blur is exact, whereas the authors' code
    takes a finite difference over 0.01 pixels. The integral is a left Riemann sum, as theirs.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        n_steps: points on the path, evenly spaced in sigma.
        max_sigma: the largest width of the blur, in pixels.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    Raises:
        MethodError: `n_steps` or `max_sigma` is not above 0.

    References:
        Xu, Venugopalan, Sundararajan 2020, https://arxiv.org/abs/2004.03383

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import blur_ig
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> blur_ig(backend, images, 0, n_steps=10).maps.shape
        (1, 9, 9)
    """
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    check_count("n_steps", n_steps)
    if not max_sigma > 0:
        raise MethodError(f"`max_sigma` must be a width in pixels above 0, got {max_sigma!r}")
    sigmas = native(backend, np.arange(n_steps) * (max_sigma / n_steps), images)

    def at(sigmas: Array) -> Array:
        blurred, change = _blurs(xp, images, sigmas, max_sigma)
        gradients = gradients_of(backend, blurred, wanted)
        return align_targets(gradients, change) * gradients

    most = variants_within(backend, images, memory)
    weights = xp.full_like(sigmas, -max_sigma / n_steps)
    zeros = zero_maps(xp, images, wanted, outputs)
    total = weighted_sum(backend, at, weights, (sigmas,), most, zeros)
    last, _ = _blurs(xp, images, xp.full_like(sigmas[:1], max_sigma), max_sigma)
    end = wanted.scores(xp, backend.forward(last[0, ...]))
    return complete(xp, total, wanted, outputs, end, reduce)


def _blurs(xp: Any, images: Array, sigmas: Array, most: float) -> tuple[Array, Array]:
    """Return the images at each width, `(m, N, *spatial, C)`, and their derivatives by the width.

    The derivative of a product of blurs along the axes is a sum with one of them differentiated.
    """
    sides = [gaussian(xp, size, sigmas, most) for size in images.shape[1:-1]]
    spread = (slice(None), *(None,) * len(sides), ...)
    blurs = [side.matrix[spread] for side in sides]
    changes = (
        filtered(xp, images, *blurs[:axis], side.slope[spread], *blurs[axis + 1 :])
        for axis, side in enumerate(sides)
    )
    return filtered(xp, images, *blurs), functools.reduce(operator.add, changes)
