"""Smooth Grad-CAM++: Grad-CAM++ with derivatives averaged over noisy copies."""

from __future__ import annotations

from typing import Any, Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._batching import (
    flatten_batch,
    tile_target,
    unflatten_batch,
    variants_within,
    weighted_sum,
)
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, native, spatial_axes
from xaimaps.methods._noise import Floats, normal
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target


def draw_noise(
    shape: tuple[int, ...], *, n_samples: int = 10, seed: int = 0, **_: Any
) -> dict[str, Floats]:
    """Draw the noise of `smooth_grad_cam_plusplus`."""
    check_count("n_samples", n_samples)
    return {"noise": normal(seed, n_samples, *shape)}


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Omeiza et al. 2019, arXiv:1908.01224",
    cost="11 F + 10 b",
    draws=draw_noise,
)
@over_layers
def smooth_grad_cam_plusplus(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_samples: int = 10,
    sigma: float = 0.15,
    seed: int = 0,
    variant: Literal["paper", "corrected"] = "paper",
    relu: bool = True,
    eigen_smooth: bool = False,
    memory: float | None = None,
    noise: Array | None = None,
) -> Maps:
    r"""Grad-CAM++ with derivatives averaged over noisy copies of the image.

    With $D_p = \frac{1}{n} \sum_m (\partial y / \partial A)^p$ at $x + \epsilon_m$, and $A$ at $x$:

    $$\alpha_{ijk} = \frac{D_{1,ijk}}{2 D_{2,ijk} + \sum_{ab} A_{abk} D_{3,ijk}}, \quad
    w_k = \sum_{ij} \alpha_{ijk}\, \mathrm{ReLU}(D_{1,ijk}), \quad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    This is the formula that the paper prints. Its numerator gives every spatial position with a
    positive gradient nearly the same weight, however small the gradient, and without noise it does
    not become Grad-CAM++.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_samples: the number n of noisy copies.
        sigma: the noise's standard deviation, as a fraction of each image's range.
        seed: of the noise, which is the same for all images and all backends.
        variant: "paper"; "corrected" has $D_2$ in the numerator, as in Grad-CAM++. torch-cam
            corrects it too, but takes $\sum_{ab} A_{abk} D_{3,abk}$ in the denominator and
            the gradient of the last copy alone for $D_1$, which no variant here does.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        memory: limit for the values of one pass, in MB; None follows the device.
        noise: standard normal `(n_samples, H, W, C)`; None draws it from `seed`.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.

    References:
        Omeiza et al. 2019, https://arxiv.org/abs/1908.01224

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import smooth_grad_cam_plusplus
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> smooth_grad_cam_plusplus(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    if variant not in ("paper", "corrected"):
        raise MethodError(f"`variant` must be 'paper' or 'corrected', got {variant!r}")
    xp, name = backend.xp, backend.find_map_layer(layer).name
    if noise is None:
        noise = draw_noise(tuple(images.shape[1:]), n_samples=n_samples, seed=seed)["noise"]
    outputs, kept = backend.forward_with_activations(images, (name,))
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    axes = tuple(range(1, len(images.shape)))
    spread = xp.max(images, axis=axes, keepdims=True) - xp.min(images, axis=axes, keepdims=True)
    scaled = sigma * spread * native(backend, noise, images)[:, None, ...]
    shape = (3, *goal.scores(xp, outputs).shape, *kept[name].shape[1:])
    start = xp.zeros(shape, dtype=kept[name].dtype)
    powers = _powers(backend, images, goal, name, scaled, memory, start)
    weights = _weights(xp, powers, kept[name], variant)
    maps = class_map(xp, weights, kept[name], relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, outputs)


def _powers(
    backend: Backend,
    images: Array,
    target: Target,
    name: str,
    noise: Array,
    memory: float | None,
    start: Array,
) -> Array:
    """Return the means of the gradient's first three powers, `(3, ..., N, *spatial, C)`."""
    xp = backend.xp

    def powers(noise: Array) -> Array:
        many = tile_target(backend, target, noise.shape[0])
        found = backend.grad(flatten_batch(xp, images + noise), many, wrt=name)
        trailing = len(found.activations.shape) - 1
        g = unflatten_batch(xp, found.gradients, noise.shape[0], trailing)
        return xp.stack([g, g * g, g * g * g], axis=1)

    most = variants_within(backend, images, memory)
    count = noise.shape[0]
    weights = xp.full((count,), 1 / count, dtype=images.dtype)
    return weighted_sum(backend, powers, weights, (noise,), most, start)


def _weights(xp: Any, powers: Array, activations: Array, variant: str) -> Array:
    """Return the weights `(..., N, C)` of the channels."""
    axes = spatial_axes(activations, batch_axes=1)
    first, second, third = powers[0, ...], powers[1, ...], powers[2, ...]
    below = 2 * second + xp.sum(activations, axis=axes, keepdims=True) * third
    alphas = divided(xp, first if variant == "paper" else second, below)
    return xp.sum(alphas * xp.maximum(first, xp.zeros_like(first)), axis=axes)
