"""IS-CAM: Score-CAM with masks of increasing strength."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._channel_masks import Variant, masked, masked_maps, mean_scores
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Naidu et al. 2020, arXiv:2010.03023",
    cost="1 F + 10 F for each channel that is not constant",
    tolerance=1e-3,  # as Score-CAM
)
@over_layers
def is_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_steps: int = 10,
    variant: Variant = "paper",
    channels: int | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
    memory: float | None = None,
) -> Maps:
    r"""Score-CAM with scores averaged over masks of increasing strength.

    With $s(U(A_k))$ as in `score_cam`:

    $$w = \mathrm{softmax}_k\, \frac{1}{n} \sum_{m=1}^{n} y\Big(x \odot
    \frac{m}{n}\, s(U(A_k))\Big)$$

    torch-cam sums the fractions cumulatively, so that its masks go from 1/n to (n + 1)/2.

    Args:
        backend: the model; only forward passes are needed, channels x `n_steps` of them.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number n of fractions.
        variant: see `score_cam`; "torch-cam" also takes its cumulative fractions.
        channels: see `score_cam`.
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
        Naidu et al. 2020, https://arxiv.org/abs/2010.03023

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import is_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> is_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    check_count("n_steps", n_steps)
    seen = masked(backend, images, target, layer, variant, channels, memory)
    fractions = np.arange(1, n_steps + 1, dtype=np.float32) / n_steps
    factors = np.cumsum(fractions) if variant == "torch-cam" else fractions
    samples = native(backend, factors, images)
    scores = mean_scores(backend, seen, samples, lambda mask, factor: mask * factor)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)
