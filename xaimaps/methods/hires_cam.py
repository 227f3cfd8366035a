"""HiResCAM: activations times gradients, position by position."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._class_map import fold_channels
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, gradients
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Draelos, Carin 2020, arXiv:2011.08891",
    cost="1 F + 1 b",
)
@over_layers
def hires_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = False,
    eigen_smooth: bool = False,
) -> Maps:
    r"""The contribution of each spatial position of a layer to the score, to first order.

    $$M_{ij} = \sum_k A_{ijk} \frac{\partial y}{\partial A_{ijk}}$$

    If the part behind the layer is linear, such as pooling and a dense layer, a map sums to the
    score minus its bias.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        relu: keep only positive values; the sum is then no longer the score.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the score.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Draelos, Carin 2020, https://arxiv.org/abs/2011.08891

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import hires_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> hires_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    weighted, rank = found.gradients * found.activations, len(found.activations.shape) - 2
    maps = fold_channels(xp, weighted, rank, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)
