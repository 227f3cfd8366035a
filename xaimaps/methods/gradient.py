"""Saliency and input x gradient: methods of one gradient with respect to the image."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._maps import Maps, Reduce, gradients, reduce_channels
from xaimaps.methods._registry import method


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Simonyan et al. 2014, arXiv:1312.6034",
    cost="1 F + 1 B",
)
def saliency(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    absolute: bool = True,
    reduce: Reduce = "max",
) -> Maps:
    r"""The magnitude of the gradient of the score at each pixel.

    $$M_{ij} = \max_c \left| \frac{\partial y}{\partial x_{ijc}} \right|$$

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        absolute: take absolute values; False keeps the sign.
        reduce: "max" (the paper's), "sum" or "mean" over the channels; None keeps them.

    Returns:
        Maps of shape `(N, H, W)`, in units of the score for each unit of the model's input.

    References:
        Simonyan, Vedaldi, Zisserman 2014, https://arxiv.org/abs/1312.6034

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import saliency
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> saliency(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    found = gradients(backend, images, target)
    values = backend.xp.abs(found.gradients) if absolute else found.gradients
    return Maps(reduce_channels(backend.xp, values, reduce), found.outputs)


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Shrikumar et al. 2016, arXiv:1605.01713",
    cost="1 F + 1 B",
)
def input_x_gradient(
    backend: Backend, images: Array, target: Any = None, *, reduce: Reduce = "sum"
) -> Maps:
    r"""The contribution of each pixel to the score, to first order.

    $$M_{ij} = \sum_c x_{ijc} \frac{\partial y}{\partial x_{ijc}}$$

    For a network of linear layers and ReLUs without biases the maps sum to the score.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model; zero is the zero of this input.
        target: the score to explain; see `xaimaps.targets.as_target`.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    References:
        Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import input_x_gradient
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> input_x_gradient(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    found = gradients(backend, images, target)
    values = images * found.gradients
    return Maps(reduce_channels(backend.xp, values, reduce), found.outputs)
