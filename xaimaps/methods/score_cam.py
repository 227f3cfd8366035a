"""Score-CAM: activations weighted by the score of the image masked with their channel."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._channel_masks import Variant, masked, masked_maps, masked_scores
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Wang et al. 2020, arXiv:1910.01279",
    cost="1 F + 1 F for each channel that is not constant",
    # A softmax over scores turns their differences into ratios.
    tolerance=1e-3,
)
@over_layers
def score_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    variant: Variant = "paper",
    channels: int | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
    memory: float | None = None,
) -> Maps:
    r"""Activations weighted by the score of the image masked with their channel.

    With the bilinear resize $U$ to the image's size and $s$, which scales a mask to 0 to 1:

    $$w = \mathrm{softmax}_k\, y\big(x \odot s(U(A_k))\big), \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    The score of the paper's baseline image is the same for each channel and cancels in the softmax.
    Masked pixels become zero in the model's input. A constant channel masks the whole image, so all
    of these, such as the channels that a ReLU makes zero, share one pass.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        variant: "paper"; "pytorch-grad-cam" enlarges masks with aligned corners; "torch-cam" scales
            masks before it enlarges them; "authors" is the authors' code, which weights by the
            probability itself; "tf-keras-vis" does so with aligned corners.
        channels: use only this number of channels, those that vary the most over the spatial
            positions (Faster-Score-CAM); None for all.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        memory: limit for the values of one pass, in MB; None follows the device.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Wang et al. 2020, https://arxiv.org/abs/1910.01279

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import score_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> score_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    seen = masked(backend, images, target, layer, variant, channels, memory)
    scores = masked_scores(backend, seen, seen.masks, lambda mask: mask)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)
