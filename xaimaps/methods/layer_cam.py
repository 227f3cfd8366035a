"""LayerCAM: activations times positive gradients, position by position."""

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
    paper="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943",
    cost="1 F + 1 b",
)
@over_layers
def layer_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Activations weighted by their positive gradients at each spatial position.

    $$M_{ij} = \mathrm{ReLU}\Big(\sum_k
    \mathrm{ReLU}\Big(\frac{\partial y}{\partial A_{ijk}}\Big) A_{ijk}\Big)$$

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the score.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import layer_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> layer_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    positive = xp.maximum(found.gradients, xp.zeros_like(found.gradients))
    rank = len(found.activations.shape) - 2
    weighted = positive * found.activations
    maps = fold_channels(xp, weighted, rank, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)
