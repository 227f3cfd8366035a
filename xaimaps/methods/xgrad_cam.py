"""XGrad-CAM: Grad-CAM with axiom-based weights."""

from __future__ import annotations

from typing import Any

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, gradients, spatial_axes
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Fu et al. 2020, arXiv:2008.02312",
    cost="1 F + 1 b",
)
@over_layers
def xgrad_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Grad-CAM with gradients averaged in proportion to the activations.

    $$w_k = \sum_{ij} \frac{A_{ijk}}{\sum_{ab} A_{abk}} \frac{\partial y}{\partial A_{ijk}}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    A channel whose activations sum to zero gets the weight 0.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Fu et al. 2020, https://arxiv.org/abs/2008.02312

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import xgrad_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> xgrad_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    axes = spatial_axes(found.activations, batch_axes=1)
    total = xp.sum(found.activations, axis=axes, keepdims=True)
    share = divided(xp, found.activations, total)
    weights = xp.sum(share * found.gradients, axis=axes)
    maps = class_map(xp, weights, found.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)
