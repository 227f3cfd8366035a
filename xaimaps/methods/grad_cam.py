"""Grad-CAM: activations weighted by their mean gradient."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, gradients, spatial_axes
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Selvaraju et al. 2017, arXiv:1610.02391",
    cost="1 F + 1 b",
)
@over_layers
def grad_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Activations weighted by the mean gradient of their channel.

    $$\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial y}{\partial A_{ijk}}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k \alpha_k A_{ijk}\Big)$$

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
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import grad_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> grad_cam(backend, images, 0, layer="relu1").maps.shape
        (1, 7, 7)
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    weights = xp.mean(found.gradients, axis=spatial_axes(found.activations, batch_axes=1))
    maps = class_map(xp, weights, found.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)
