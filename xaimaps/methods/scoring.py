"""Class activation maps weighed by what each channel, shown alone, does to the score."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods.channel_masks import Variant, masked, masked_maps, masked_scores, mean_scores
from xaimaps.methods.chunks import MEMORY
from xaimaps.methods.draws import Floats, check_count, normal
from xaimaps.methods.fusion import over_layers
from xaimaps.methods.maps import Maps, native
from xaimaps.methods.table import Method


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
    memory: float = MEMORY,
) -> Maps:
    r"""Activations weighed by the score of the image behind each of them as a mask.

    With the bilinear resize $U$ to the image's size and $s$, which scales a mask to 0 to 1:

    $$w = \mathrm{softmax}_k\, y\big(x \odot s(U(A_k))\big), \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    The score of the paper's baseline image, the same for each channel, cancels in the softmax. What
    a mask hides becomes zero, as the model takes it. A constant channel hides everything.

    Args:
        backend: the model; forward passes are all it must do.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained, decided on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        variant: "paper"; "pytorch-grad-cam" enlarges by aligned corners; "torch-cam" scales masks
            before it enlarges them; the "authors" published code that weighs by the probability
            itself, and "tf-keras-vis" does so by aligned corners.
        channels: only so many channels, those that vary the most from place to place
            (Faster-Score-CAM); None for all.
        relu: keep only what speaks for the target, as the paper does.
        eigen_smooth: the first principal component over the channels, in place of their sum.
        memory: bound on the values of one pass, in MB.
        fuse: how several layers become one map; see `xaimaps.methods.fusion.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Wang et al. 2020, https://arxiv.org/abs/1910.01279
    """
    seen = masked(backend, images, target, layer, variant, channels, memory)
    scores = masked_scores(backend, seen, seen.masks, lambda mask: mask)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)


def draw_noise(
    shape: tuple[int, ...], *, n_samples: int = 35, seed: int = 0, **_: Any
) -> dict[str, Floats]:
    """The noise of `ss_cam`."""
    check_count("n_samples", n_samples)
    return {"noise": normal(seed, n_samples, *shape[:2])}


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
    memory: float = MEMORY,
    noise: Array | None = None,
) -> Maps:
    r"""Score-CAM with each channel's score averaged over noisy masks.

    With $s(U(A_k))$ as in `score_cam`, $\epsilon_m \sim N(0, \sigma^2)$:

    $$w = \mathrm{softmax}_k\, \frac{1}{n} \sum_{m=1}^{n} y\big(x \odot (s(U(A_k)) +
    \epsilon_m)\big)$$

    All channels see the same noise, so that it does not add to what sets them apart.

    Args:
        backend: the model; forward passes are all it must do, as many as channels x `n_samples`.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained, decided on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_samples: the number n of noisy masks for each channel.
        sigma: the noise's standard deviation, where a mask goes from 0 to 1.
        seed: of the noise, which is the same for all images and on all backends.
        variant: see `score_cam`.
        channels: see `score_cam`.
        relu: keep only what speaks for the target, as the paper does.
        eigen_smooth: the first principal component over the channels, in place of their sum.
        memory: bound on the values of one pass, in MB.
        noise: standard normal `(n_samples, H, W)`; None draws it by `seed`.
        fuse: how several layers become one map; see `xaimaps.methods.fusion.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Wang et al. 2020, https://arxiv.org/abs/2006.14255
    """
    if noise is None:
        noise = draw_noise(tuple(images.shape[1:]), n_samples=n_samples, seed=seed)["noise"]
    seen = masked(backend, images, target, layer, variant, channels, memory)
    samples = sigma * native(backend, noise, images)
    scores = mean_scores(backend, seen, samples, lambda mask, sample: mask + sample)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)


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
    memory: float = MEMORY,
) -> Maps:
    r"""Score-CAM with each channel's score averaged from nothing to the whole mask.

    With $s(U(A_k))$ as in `score_cam`:

    $$w = \mathrm{softmax}_k\, \frac{1}{n} \sum_{m=1}^{n} y\Big(x \odot
    \frac{m}{n}\, s(U(A_k))\Big)$$

    torch-cam sums the fractions too, so that its masks go from 1/n up to (n + 1)/2.

    Args:
        backend: the model; forward passes are all it must do, as many as channels x `n_steps`.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained, decided on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number n of fractions.
        variant: see `score_cam`; with "torch-cam" the fractions are its sums.
        channels: see `score_cam`.
        relu: keep only what speaks for the target, as the paper does.
        eigen_smooth: the first principal component over the channels, in place of their sum.
        memory: bound on the values of one pass, in MB.
        fuse: how several layers become one map; see `xaimaps.methods.fusion.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Naidu et al. 2020, https://arxiv.org/abs/2010.03023
    """
    check_count("n_steps", n_steps)
    seen = masked(backend, images, target, layer, variant, channels, memory)
    fractions = np.arange(1, n_steps + 1, dtype=np.float32) / n_steps
    factors = np.cumsum(fractions) if variant == "torch-cam" else fractions
    samples = native(backend, factors, images)
    scores = mean_scores(backend, seen, samples, lambda mask, factor: mask * factor)
    return masked_maps(backend.xp, seen, scores, relu, eigen_smooth)


_NEEDS = frozenset[Any]({"forward", "activations"})

ROWS = (
    Method(
        score_cam,
        family="cam",
        needs=_NEEDS,
        paper="Wang et al. 2020, arXiv:1910.01279",
        cost="1 F + 1 F for each channel",
    ),
    Method(
        ss_cam,
        family="cam",
        needs=_NEEDS,
        paper="Wang et al. 2020, arXiv:2006.14255",
        cost="1 F + 35 F for each channel",
        draws=draw_noise,
    ),
    Method(
        is_cam,
        family="cam",
        needs=_NEEDS,
        paper="Naidu et al. 2020, arXiv:2010.03023",
        cost="1 F + 10 F for each channel",
    ),
)
"""These methods in the table."""
