"""FullGrad: the contributions of the image and of every bias to the score."""

from __future__ import annotations

import math
from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._maps import Maps
from xaimaps.methods._registry import method
from xaimaps.methods._resize import resized
from xaimaps.targets import as_target

_LEAST = 1e-6  # the authors' epsilon of the rescaling


@method(
    family="gradient",
    needs={"forward", "grad", "biases"},
    paper="Srinivas and Fleuret 2019, arXiv:1905.00780",
    cost="2 F + 1 B",
)
def fullgrad(backend: Backend, images: Array, target: Any = None) -> Maps:
    r"""Input times gradient, plus the contributions of the biases of all layers.

    The score is $x \cdot \nabla_x y + \sum_l \sum_k b^l_k \cdot \nabla_{b^l_k} y$. The first term
    sums over pixels, the others over the spatial positions of layers. With $\psi$ the absolute
    value, rescaled to 0 to 1 for each layer, and bilinearly resized to the size of the image:

    $$M = \sum_c \psi(x \odot \nabla_x y)_c
      + \sum_l \sum_k \psi(b^l \odot \nabla_{b^l} y)_k$$

    The bias of a layer is its output minus its linear part, so that normalisations and activation
    functions have biases too, and the terms sum to the score. `details["completeness_delta"]` is
    the error of this sum. Terms without spatial positions, such as a dense layer's, are not part
    of the map.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.

    Returns:
        Non-negative maps of shape `(N, H, W)`, without a unit.

    References:
        Srinivas, Fleuret 2019, https://arxiv.org/abs/1905.00780

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import fullgrad
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> fullgrad(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    xp = backend.xp
    wanted = as_target(target, images.shape[0], backend.info.labels)
    found, terms = backend.biases(images, wanted)
    by_image = images * found.gradients
    rank, axes = len(by_image.shape), tuple(range(1 - len(images.shape), 0))
    maps = xp.sum(_rescaled(xp, by_image, axes), axis=-1)
    for term in terms:
        if len(term.shape) == rank:
            layer = xp.sum(_rescaled(xp, term, axes), axis=-1)
            maps = maps + resized(backend, layer, tuple(images.shape[1:-1]))
    total = sum(
        (_total(xp, term, found.scores) for term in terms), _total(xp, by_image, found.scores)
    )
    return Maps(maps, found.outputs, {"completeness_delta": total - found.scores})


def _rescaled(xp: Any, values: Array, axes: tuple[int, ...]) -> Array:
    """Scale the absolute values of each image to 0 to 1; zeros stay zeros."""
    values = xp.abs(values)
    values = values - xp.min(values, axis=axes, keepdims=True)
    return values / (xp.max(values, axis=axes, keepdims=True) + _LEAST)


def _total(xp: Any, values: Array, like: Array) -> Array:
    """Return the sum for each score, `(N,)` or `(K, N)`."""
    count = len(like.shape)
    flat = (*values.shape[:count], math.prod(values.shape[count:]))
    return xp.sum(xp.reshape(values, flat), axis=-1)
