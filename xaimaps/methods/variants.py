"""What the methods share that add up gradients over variants of an image."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods.chunks import merged, parted, repeated
from xaimaps.methods.maps import Maps, Reduce, reduce_channels
from xaimaps.targets import Target


def zero_maps(xp: Any, images: Array, target: Target, outputs: Array) -> Array:
    """Zeros for what a method adds up: `(N, H, W, C)`, or `(K, N, H, W, C)`."""
    scores = target.scores(xp, outputs)
    return xp.zeros((*scores.shape, *images.shape[1:]), dtype=images.dtype)


def gradients_of(backend: Backend, variants: Array, target: Target) -> Array:
    """The gradients at variants `(m, N, H, W, C)` of a batch: that shape, or `(m, K, N, ...)`."""
    xp, count = backend.xp, variants.shape[0]
    found = backend.grad(merged(xp, variants), repeated(backend, target, count))
    return parted(xp, found.gradients, count, trailing=3)


def complete(
    xp: Any, values: Array, target: Target, outputs: Array, start_scores: Array, reduce: Reduce
) -> Maps:
    """Maps of values that should sum to the score's difference, and by how much they do not."""
    difference = target.scores(xp, outputs) - start_scores
    delta = xp.sum(values, axis=(-3, -2, -1)) - difference
    return Maps(reduce_channels(xp, values, reduce), outputs, {"completeness_delta": delta})


def beside(gradients: Array, ways: Array) -> Array:
    """`(m, N, H, W, C)` to be multiplied with `(m, N, ...)` or `(m, K, N, ...)`."""
    return ways if len(gradients.shape) == len(ways.shape) else ways[:, None, ...]
