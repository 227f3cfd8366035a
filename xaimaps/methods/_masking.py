"""Masks, and the scores of images that are partly masked."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np

from xaimaps._arithmetic import softmax
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline, baselines, knows_colours
from xaimaps.methods._batching import flatten_batch, tile_target, unflatten_batch
from xaimaps.methods._noise import Floats
from xaimaps.targets import Target


def outer(parts: Sequence[Array]) -> Array:
    """Return the masks `(m, n, k, ...)` that are products of parts `(m, n)`, `(m, k)`, ..."""
    spread = (
        part[(slice(None), *(slice(None) if i == axis else None for i in range(len(parts))))]
        for axis, part in enumerate(parts)
    )
    product: Array = functools.reduce(operator.mul, spread)
    return product


def every_pair(parts: Sequence[Floats]) -> list[Floats]:
    """Combine each row of a part with each of the others; all masks would need too much memory."""
    places = np.indices([len(part) for part in parts]).reshape(len(parts), -1)
    return [part[place] for part, place in zip(parts, places, strict=True)]


def default_filling(backend: Backend) -> str:
    """Return "gray" where the preprocessing knows it, otherwise "zeros"."""
    return "gray" if knows_colours(backend) else "zeros"


def filling_of(backend: Backend, images: Array, baseline: Baseline) -> Array:
    """Return the pixels that replace the masked ones, `(N, H, W, C)` or `(1, H, W, C)`.

    Raises:
        MethodError: there is no such baseline, or it is more than one image.
    """
    name = default_filling(backend) if baseline is None else baseline
    found = baselines(backend, images, name)
    if found.shape[0] != 1:
        raise MethodError(f"`baseline` must be one image, got {found.shape[0]}")
    return found[0, ...]


def scores_behind(
    backend: Backend,
    images: Array,
    filling: Array,
    target: Target,
    masks: Array,
    probability: bool = False,
) -> Array:
    """Return the scores `(m, ..., N)` of images under masks `(m, 1, *spatial)`; 1 keeps a pixel."""
    xp, open_ = backend.xp, masks[..., None]
    outputs = backend.forward(flatten_batch(xp, filling + open_ * (images - filling)))
    scores = scores_of(backend, tile_target(backend, target, masks.shape[0]), outputs, probability)
    return unflatten_batch(xp, scores, masks.shape[0], trailing=0)


def scores_of(backend: Backend, target: Target, outputs: Array, probability: bool) -> Array:
    """Return the scores `(..., N)`, or the probabilities of classes.

    A model that ends in a sigmoid has independent classes. A single output without one, as of a
    regression, and a target that is no class have scores only.

    Args:
        backend: the model.
        target: resolved on the clean images.
        outputs: `(N, ...)`, those of the model.
        probability: whether probabilities are wanted.
    """
    xp = backend.xp
    scores = target.scores(xp, outputs)
    if not probability or target.indices_in(xp, outputs) is None:
        return scores
    if backend.info.ending == "sigmoid":
        return softmax(xp, xp.stack([xp.zeros_like(scores), scores], axis=-1))[..., 1]
    is_single = len(outputs.shape) == 1 or outputs.shape[-1] == 1
    return scores if is_single else target.scores(xp, softmax(xp, outputs))
