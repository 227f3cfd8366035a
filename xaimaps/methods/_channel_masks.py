"""A layer's channels as masks over the image, shared by Score-CAM, SS-CAM and IS-CAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps._arithmetic import divided, softmax
from xaimaps._resampling import linear_weights
from xaimaps.backend import Array, Backend
from xaimaps.methods._batching import (
    flatten_batch,
    map_varied,
    tile_target,
    unflatten_batch,
    variants_within,
)
from xaimaps.methods._class_map import class_map
from xaimaps.methods._maps import Maps, feature_maps, native, spatial_axes
from xaimaps.methods._masking import scores_of
from xaimaps.methods._options import check_choice, check_count
from xaimaps.methods._resize import filtered_maps
from xaimaps.targets import Target, as_target

Variant = Literal["paper", "pytorch-grad-cam", "torch-cam", "authors", "tf-keras-vis"]


class Rule(NamedTuple):
    """How a variant makes its masks and weights.

    Attributes:
        aligned: align the corners of layer and image instead of using half-pixel centres.
        early: scale masks to 0 to 1 before enlarging them instead of after.
        probability: weight by the probabilities themselves instead of a softmax of the scores.
    """

    aligned: bool = False
    early: bool = False
    probability: bool = False


RULES = {
    "paper": Rule(),
    "pytorch-grad-cam": Rule(aligned=True),
    "torch-cam": Rule(early=True),
    "authors": Rule(probability=True),
    "tf-keras-vis": Rule(aligned=True, probability=True),
}


class Masked(NamedTuple):
    """The state that the three methods share.

    Attributes:
        images: `(N, *spatial, C)`.
        outputs: of the clean images.
        target: the target resolved on these outputs.
        rule: the variant's.
        activations: of the chosen channels, `(N, *spatial, C)`, in the order of the masks.
        masks: `(C, N, *spatial)`, at the layer's size.
        most: the number of masked batches at a time.
    """

    images: Array
    outputs: Array
    target: Target
    rule: Rule
    activations: Array
    masks: Array
    most: int


def masked(
    backend: Backend,
    images: Array,
    target: Any,
    layer: str | None,
    variant: str,
    channels: int | None,
    memory: float | None,
) -> Masked:
    """Run the clean images, and make a mask from each channel of the layer.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant, or an option is out of range.
    """
    check_choice("variant", variant, RULES)
    xp, rule = backend.xp, RULES[variant]
    values, outputs = feature_maps(backend, images, layer)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    # In this order, constant channels are next to each other, so that chunks of them are not run.
    activations = _varied(xp, values, channels)
    masks = xp.moveaxis(activations, -1, 0)
    masks = unit_range(xp, masks, len(images.shape) - 2) if rule.early else masks
    most = variants_within(backend, images, memory, gradient=False)
    return Masked(images, outputs, goal, rule, activations, masks, most)


def _varied(xp: Any, activations: Array, channels: int | None) -> Array:
    """Order channels `(N, *spatial, C)` by how much they vary over the spatial positions.

    Args:
        xp: the namespace.
        activations: of all channels.
        channels: the number of those that vary the most to keep; None for all.

    Raises:
        MethodError: the number is not positive.
    """
    if channels is not None:
        check_count("channels", channels)
    axes = spatial_axes(activations, batch_axes=1)
    order = xp.argsort(-xp.var(activations, axis=axes), axis=-1, stable=True)
    chosen = order[(slice(None), *(None for _ in axes), slice(channels))]
    shape = (*activations.shape[:-1], chosen.shape[-1])
    return xp.take_along_axis(activations, xp.broadcast_to(chosen, shape), axis=-1)


def unit_range(xp: Any, masks: Array, rank: int) -> Array:
    """Scale each mask `(..., *spatial)` to 0 to 1; a constant one becomes 0."""
    axes = tuple(range(-rank, 0))
    low = xp.min(masks, axis=axes, keepdims=True)
    return divided(xp, masks - low, xp.max(masks, axis=axes, keepdims=True) - low)


def masked_scores(
    backend: Backend, seen: Masked, masks: Array, change: Callable[[Array], Array]
) -> Array:
    """Return the score of the image under each mask, `(C, ..., N)`, after `change` of the masks.

    All constant masks become the same one, so their score is computed once.
    """
    xp, matrices = backend.xp, _enlarging(backend, seen)

    def fn(masks: Array) -> Array:
        large = filtered_maps(xp, masks, *matrices)
        whole = change(large if seen.rule.early else unit_range(xp, large, len(matrices)))
        outputs = backend.forward(flatten_batch(xp, seen.images * whole[..., None]))
        target = tile_target(backend, seen.target, masks.shape[0])
        scores = scores_of(backend, target, outputs, seen.rule.probability)
        return unflatten_batch(xp, scores, masks.shape[0], 0)

    axes = tuple(range(2, len(masks.shape)))
    varies = xp.max(masks, axis=axes) != xp.min(masks, axis=axes)
    one = seen.target.scores(xp, seen.outputs)
    return map_varied(backend, fn, masks, varies, one, seen.most)


def _enlarging(backend: Backend, seen: Masked) -> list[Array]:
    """Return the matrix of the resize from the layer to the image for each axis."""
    weights = _aligned_weights if seen.rule.aligned else linear_weights
    sizes = zip(seen.masks.shape[2:], seen.images.shape[1:-1], strict=True)
    return [native(backend, weights(*pair), seen.masks) for pair in sizes]


def _aligned_weights(n_in: int, n_out: int) -> np.ndarray[Any, Any]:
    """Return the matrix of a linear resize with aligned corners."""
    positions = np.arange(n_out) * ((n_in - 1) / max(n_out - 1, 1))
    weights: np.ndarray[Any, Any] = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(n_in)))
    return weights.astype(np.float32)


def mean_scores(
    backend: Backend, seen: Masked, samples: Array, change: Callable[[Array, Array], Array]
) -> Array:
    """Return the mean of `masked_scores` over changes of the masks, made one after the other."""

    def step(total: Array, sample: Array) -> tuple[Array, None]:
        return total + masked_scores(backend, seen, seen.masks, lambda m: change(m, sample)), None

    xp = backend.xp
    one = seen.target.scores(xp, seen.outputs)
    start = xp.zeros((seen.masks.shape[0], *one.shape), dtype=one.dtype)
    return backend.scan(step, start, samples)[0] / samples.shape[0]


def masked_maps(xp: Any, seen: Masked, scores: Array, relu: bool, eigen_smooth: bool) -> Maps:
    """Return the maps for the scores under each mask, `(C, ..., N)`."""
    weights = xp.moveaxis(scores, 0, -1)
    weights = weights if seen.rule.probability else softmax(xp, weights)
    maps = class_map(xp, weights, seen.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, seen.outputs)
