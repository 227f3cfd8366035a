"""Random CAM: activations weighted at random, a baseline for class activation maps."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, feature_maps, native
from xaimaps.methods._noise import uniform
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Gildenblat 2021, pytorch-grad-cam",
    cost="1 F",
    uses_target=False,
)
@over_layers
def random_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    seed: int = 0,
    relu: bool = True,
) -> Maps:
    r"""Activations with a random weight for each channel, a baseline for other maps.

    $$M = \mathrm{ReLU}\Big(\sum_c w_c A_c\Big), \qquad w_c \sim U(-1, 1)$$

    A method that chooses its weights well has better scores than this one in `xaimaps evaluate`.
    The weights are the same for all images.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        seed: of the weights.
        relu: keep the positive part only.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `seed` is negative.

    References:
        Gildenblat 2021, https://github.com/jacobgil/pytorch-grad-cam

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import random_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> random_cam(backend, images).maps.shape
        (1, 5, 5)
    """
    values, outputs = feature_maps(backend, images, layer)
    weights = native(backend, 2 * uniform(seed, 1, values.shape[-1]) - 1, values)
    return Maps(class_map(backend.xp, weights, values, relu=relu), outputs)
