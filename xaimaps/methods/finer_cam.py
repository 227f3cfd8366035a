"""Finer-CAM: Grad-CAM of a class against the most similar classes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError, TargetError
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, gradients, spatial_axes
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target, class_scores, one_hot


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Zhang et al. 2025, arXiv:2501.11309",
    cost="1 F + 4 b",
    only_classes=True,
)
@over_layers
def finer_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    references: int = 3,
    strength: float = 0.6,
    variant: Literal["paper", "pytorch-grad-cam"] = "paper",
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Grad-CAM of a class's score minus the scores of the most similar classes.

    $$s = y_c - \gamma \frac{1}{T} \sum_{t=1}^{T} y_{d_t}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k \frac{1}{Z} \sum_{ab}
    \frac{\partial s}{\partial A_{abk}} A_{ijk}\Big)$$

    The classes $d_t$ are the $T$ others whose scores are closest to $y_c$.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the classes; a function of the outputs is refused, as it has no similar classes.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        references: the number T of classes to compare with; all others if there are fewer.
        strength: the factor $\gamma$; 0 is Grad-CAM.
        variant: "paper"; "pytorch-grad-cam" weights the references by their probabilities, and
            differentiates these weights too (its default strength is 1).
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or fewer than one reference.
        TargetError: the target is not a class.

    References:
        Zhang et al. 2025, https://arxiv.org/abs/2501.11309

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import finer_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> finer_cam(backend, images, 0, references=2).maps.shape
        (1, 5, 5)
    """
    if variant not in ("paper", "pytorch-grad-cam"):
        raise MethodError(f"`variant` must be 'paper' or 'pytorch-grad-cam', got {variant!r}")
    check_count("references", references)
    xp, name = backend.xp, backend.find_map_layer(layer).name
    own = as_target(target, images.shape[0], backend.info.labels)
    found = gradients(backend, images, _WithSimilar(own, references), wrt=name)
    axes = spatial_axes(found.activations, batch_axes=1)
    classes = class_scores(xp, found.outputs, is_binary=own.is_binary)
    count = min(1 + references, classes.shape[-1])
    shares = _shares(xp, _grouped(xp, found.scores, count, own.is_several), strength, variant)
    pooled = _grouped(xp, xp.mean(found.gradients, axis=axes), count, own.is_several)
    weights = xp.sum(shares[..., None] * pooled, axis=0)
    maps = class_map(xp, weights, found.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)


@dataclass(frozen=True)
class _WithSimilar(Target):
    """Each class, followed by the T others with the closest scores: `((1 + T) * K, N)`."""

    own: Target
    most: int

    @property
    def key(self) -> Hashable:
        return ("similar", self.own.key, self.most)

    @property
    def is_several(self) -> bool:
        return True

    @property
    def is_binary(self) -> bool:
        return self.own.is_binary

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.own.arrays

    def with_arrays(self, arrays: tuple[Array, ...]) -> _WithSimilar:
        return _WithSimilar(self.own.with_arrays(arrays), self.most)

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        own = self.own.indices_in(xp, outputs)
        if own is None:
            raise TargetError(
                "`target` must be a class for finer_cam, got a function; use grad_cam"
            )
        own = own if self.own.is_several else own[None, :]
        classes = class_scores(xp, outputs, is_binary=self.is_binary)
        is_own = one_hot(xp, own, classes)
        score = xp.sum(xp.where(is_own, classes, xp.zeros_like(classes)), axis=-1, keepdims=True)
        distance = xp.where(is_own, xp.full_like(score, -1.0), xp.abs(classes - score))
        nearest = xp.argsort(distance, axis=-1, stable=True)[..., : 1 + self.most]
        first = xp.moveaxis(nearest, -1, 0)
        return xp.astype(xp.reshape(first, (-1, first.shape[-1])), own.dtype)


def _grouped(xp: Any, values: Array, count: int, is_several: bool) -> Array:
    """Reshape `((1 + T) * K, N, ...)` to `(1 + T, K, N, ...)`, without K for one target."""
    shape = (count, -1) if is_several else (count,)
    return xp.reshape(values, (*shape, *values.shape[1:]))


def _shares(xp: Any, scores: Array, strength: float, variant: str) -> Array:
    r"""Return $\partial s / \partial y$ for the class and its references, `(1 + T, ..., N)`."""
    others = scores[1:, ...]
    if variant == "paper" or not others.shape[0]:
        parts = xp.ones_like(others) / max(others.shape[0], 1)
    else:  # s = y_c - strength * sum_t q_t y_t with q the softmax over the references
        powers = xp.exp(others - xp.max(others, axis=0))
        q = powers / xp.sum(powers, axis=0)
        parts = q * (1 + others - xp.sum(q * others, axis=0))
    return xp.concat([xp.ones_like(scores[:1, ...]), -strength * parts], axis=0)
