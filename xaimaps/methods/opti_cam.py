"""Opti-CAM: the weighted sum of activations that maximises the score of the masked image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xaimaps._arithmetic import softmax
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._channel_masks import unit_range
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, feature_maps, native, spatial_axes
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import resized
from xaimaps.targets import Target, as_target

_DECAYS, _EPSILON = (0.9, 0.999), 1e-8
"""Adam's own: the decays of the means of gradients and of their squares, and the least divisor."""

_ROUNDING = 1e-6
"""A gradient that is smaller than this, relative to its terms, is a rounding error."""


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Zhang et al. 2023, arXiv:2301.07002",
    cost="1 F + n_steps (F + B), one after another",
    is_relative=True,
)
@over_layers
def opti_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    n_steps: int = 50,
    rate: float = 0.1,
) -> Maps:
    r"""The weighted sum of activations that maximises the score of the image masked with it.

    With the bilinear resize $U$ to the image's size and $s$, which scales a mask to 0 to 1:

    $$M_{ij} = \sum_k \mathrm{softmax}(u)_k A_{ijk}, \qquad
    u = \mathrm{argmax}_u\, y\big(x \odot s(U(M))\big)$$

    Adam takes `n_steps` steps from equal weights, without the early end of the authors' code.
    Masked pixels become zero in the model's input.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number of steps.
        rate: Adam's learning rate.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations; only differences between positions
        have a meaning. The score of the masked image before each step is
        `details["masked_scores"]`, `(N, n_steps)`.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `n_steps` or `rate` is not positive.

    References:
        Zhang et al. 2023, https://arxiv.org/abs/2301.07002

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import opti_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> opti_cam(backend, images, 0, n_steps=2).maps.shape
        (1, 5, 5)
    """
    check_count("n_steps", n_steps)
    if not rate > 0:
        raise MethodError(f"`rate` must be a number above 0, got {rate}")
    xp = backend.xp
    values, outputs = feature_maps(backend, images, layer)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    searches = [_Search(backend, images, values, part) for part in goal.parts]
    maps, scores = (
        xp.stack(list(part))
        for part in zip(*(one.run(n_steps, rate) for one in searches), strict=True)
    )
    if not goal.is_several:
        maps, scores = maps[0, ...], scores[0, ...]
    return Maps(maps, outputs, {"masked_scores": scores})


class _Search(NamedTuple):
    """The search for the weights of one target; their logits are `(N, C)`."""

    backend: Backend
    images: Array
    activations: Array
    target: Target

    def run(self, n_steps: int, rate: float) -> tuple[Array, Array]:
        """Maximise the scores by Adam; return the maps, and the scores `(N, n_steps)`."""
        xp, (first, second), turns = self.backend.xp, _DECAYS, np.arange(1, n_steps + 1)

        def step(carry: tuple[Array, ...], unbiased: tuple[Array, ...]) -> tuple[Any, Array]:
            logits, mean, square = carry
            slopes, scores = self._slopes(logits)
            mean = first * mean + (1 - first) * slopes
            square = second * square + (1 - second) * slopes**2
            move = mean / unbiased[0] / (xp.sqrt(square / unbiased[1]) + _EPSILON)
            return (logits + rate * move, mean, square), scores

        axes = spatial_axes(self.activations, batch_axes=1)
        none = xp.zeros_like(xp.mean(self.activations, axis=axes))
        factors = tuple(native(self.backend, 1 - decay**turns, none) for decay in _DECAYS)
        (logits, _, _), scores = self.backend.scan(step, (none, none, none), factors)
        return self._maps(logits), xp.moveaxis(scores, 0, -1)

    def _slopes(self, logits: Array) -> tuple[Array, Array]:
        """Return the gradients of the scores by the logits, and the scores."""
        xp = self.backend.xp
        found = self.backend.grad(self.images * self._masks(logits), self.target)
        by_masks = found.gradients * self.images
        axes = tuple(range(1, len(by_masks.shape)))

        def linear(logits: Array) -> tuple[Array, Array]:
            return xp.sum(by_masks * self._masks(logits), axis=axes), logits

        slopes = self.backend.differentiate(linear, logits).gradients
        # Adam would enlarge a rounding error to a whole step.
        size = xp.sum(xp.abs(by_masks), axis=axes)[:, None] * softmax(xp, logits)
        is_real = xp.abs(slopes) > _ROUNDING * size
        return xp.where(is_real, slopes, xp.zeros_like(slopes)), found.scores

    def _masks(self, logits: Array) -> Array:
        size = tuple(self.images.shape[1:-1])
        large = resized(self.backend, self._maps(logits), size)
        return unit_range(self.backend.xp, large, len(size))[..., None]

    def _maps(self, logits: Array) -> Array:
        return class_map(self.backend.xp, softmax(self.backend.xp, logits), self.activations)
