"""Opti-CAM: the weighted sum of activations that maximises the score of the masked image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xaimaps._arithmetic import softmax
from xaimaps.backend import INPUT, Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._channel_masks import unit_range
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, native, spatial_axes
from xaimaps.methods._masking import scores_of
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import resized
from xaimaps.targets import Target, as_target

_DECAYS = 0.9, 0.999
"""Of the means of gradients and of their squares: Adam's own."""


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
    probability: bool = False,
) -> Maps:
    r"""The weighted sum of activations that maximises the score of the image masked with it.

    With the bilinear resize $U$ to the image's size and $s$, which scales a mask to 0 to 1:

    $$M_{ij} = \sum_k \mathrm{softmax}(u)_k A_{ijk}, \qquad
    u = \arg\max_u\, y\big(x \odot s(U(M))\big)$$

    Adam takes `n_steps` steps from equal weights, without the early end of the authors' code.
    Masked pixels become zero in the model's input.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        n_steps: the number of steps.
        rate: Adam's learning rate.
        probability: y is the probability of a class instead of its score.
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
    xp, name = backend.xp, backend.find_map_layer(layer).name
    backend.network.require_gradient(INPUT)
    outputs, kept = backend.forward_with_activations(images, (name,))
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    size = tuple(images.shape[1:-1])

    def maps_of(logits: Array) -> Array:
        return class_map(xp, softmax(xp, logits), kept[name])

    def masked(part: Target, logits: Array) -> tuple[Array, Array]:
        masks = unit_range(xp, resized(backend, maps_of(logits), size), len(size))
        found = backend.forward(images * masks[..., None])
        return scores_of(backend, part, found, probability), found

    start = xp.zeros_like(xp.mean(kept[name], axis=spatial_axes(kept[name], batch_axes=1)))
    ends = [
        _ascend(backend, functools.partial(masked, part), start, n_steps, rate)
        for part in goal.parts
    ]
    maps, scores = xp.stack([maps_of(end) for end, _ in ends]), xp.stack([one for _, one in ends])
    if not goal.is_several:
        maps, scores = maps[0], scores[0]
    return Maps(maps, outputs, {"masked_scores": scores})


def _ascend(
    backend: Backend,
    fn: Callable[[Array], tuple[Array, Array]],
    start: Array,
    n_steps: int,
    rate: float,
) -> tuple[Array, Array]:
    """Maximise the scores of `fn` by Adam; return the end, and the scores `(N, n_steps)`."""
    xp, turns = backend.xp, np.arange(1, n_steps + 1)
    first, second = _DECAYS
    corrections = (native(backend, 1 - decay**turns, start) for decay in _DECAYS)

    def step(carry: tuple[Array, ...], unbiased: tuple[Array, ...]) -> tuple[Any, Array]:
        point, mean, square = carry
        found = backend.differentiate(fn, point)
        mean = first * mean + (1 - first) * found.gradients
        square = second * square + (1 - second) * found.gradients**2
        length = xp.sqrt(square / unbiased[1]) + 1e-8
        return (point + rate * mean / unbiased[0] / length, mean, square), found.scores

    none = xp.zeros_like(start)
    (end, _, _), scores = backend.scan(step, (start, none, none), tuple(corrections))
    return end, xp.moveaxis(scores, 0, -1)
