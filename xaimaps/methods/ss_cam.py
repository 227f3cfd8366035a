"""SS-CAM: Score-CAM with noisy masks."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._channel_masks import Variant, masked, masked_maps, mean_scores
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._noise import Floats, normal
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method


def draw_noise(
    shape: tuple[int, ...], *, n_samples: int = 35, seed: int = 0, **_: Any
) -> dict[str, Floats]:
    """Draw the noise of `ss_cam`."""
    check_count("n_samples", n_samples)
    return {"noise": normal(seed, n_samples, *shape[:-1])}


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Wang et al. 2020, arXiv:2006.14255",
    cost="1 F + 35 F for each channel that is not constant",
    draws=draw_noise,
    tolerance=1e-3,  # as Score-CAM
)
@over_layers
def ss_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_samples: int = 35,
    sigma: float = 2.0,
    seed: int = 0,
    variant: Variant = "paper",
    channels: int | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
    memory: float | None = None,
    noise: Array | None = None,
) -> Maps:
    r"""Score-CAM with scores averaged over noisy masks.

    With $s(U(A_k))$ as in `score_cam`, $\epsilon_m \sim N(0, \sigma^2)$:

    $$w = \mathrm{softmax}_k\, \frac{1}{n} \sum_{m=1}^{n} y\big(x \odot (s(U(A_k)) +
    \epsilon_m)\big)$$

    All channels get the same noise, so that it does not add to the differences between them.

    Args:
        backend: the model; only forward passes are needed, channels x `n_samples` of them.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_samples: the number n of noisy masks for each channel.
        sigma: the noise's standard deviation, for masks from 0 to 1.
        seed: of the noise, which is the same for all images and all backends.
        variant: see `score_cam`.
        channels: see `score_cam`.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        memory: limit for the values of one pass, in MB; None follows the device.
        noise: standard normal `(n_samples, H, W)`; None draws it from `seed`.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Wang et al. 2020, https://arxiv.org/abs/2006.14255

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import ss_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> ss_cam(backend, images, 0, n_samples=3).maps.shape
        (1, 5, 5)
    """
    if noise is None:
        noise = draw_noise(tuple(images.shape[1:]), n_samples=n_samples, seed=seed)["noise"]
    seen = masked(backend, images, target, layer, variant, channels, memory)
    samples = sigma * native(backend, noise, images)
    scores = mean_scores(backend, seen, samples, lambda mask, sample: mask + sample)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)
