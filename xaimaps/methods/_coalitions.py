"""Games of segments: the scores of images in which only some of the segments are visible.

A coalition is a row of `(V, M)`, for M segments: 1 shows a segment, 0 replaces it by the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._batching import map_chunks, variants_within
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._masking import filling_of, scores_behind, scores_of
from xaimaps.methods._noise import Floats, uniform
from xaimaps.methods._segments import masks_of, segment_means

ROUNDING = 1e-6
"""The relative size of changes of a float32 score that are rounding; ratios of them say nothing."""

SEGMENT_MEANS = "segments"
"""The baseline of LIME: every segment in its mean colour."""


class Game(NamedTuple):
    """What was played.

    Attributes:
        outputs: of the images themselves, `(N, ...)`.
        score: of the images themselves, `(..., N)`.
        scores: of the coalitions, `(V, ..., N)`.
    """

    outputs: Array
    score: Array
    scores: Array


def play(
    backend: Backend,
    images: Array,
    target: object,
    drawn: Mapping[str, Array],
    baseline: Baseline,
    probability: bool,
    memory: float | None,
) -> Game:
    """Score the drawn coalitions, as many at a time as the memory allows.

    Args:
        backend: the model.
        images: `(N, H, W, C)`.
        target: the user's target.
        drawn: `labels`, the segment of each pixel, and `coalitions` `(V, M)`.
        baseline: the pixels of absent segments.
        probability: whether scores are the probabilities of classes.
        memory: limit for the values of one pass, in MB; None follows the device.

    Raises:
        MethodError: there is no such baseline, or `memory` is not a positive number.
    """
    outputs, wanted = named(backend, images, target)
    most = variants_within(backend, images, memory, gradient=False)
    labels = _own(backend, drawn["labels"])
    coalitions = native(backend, drawn["coalitions"], images)
    if isinstance(baseline, str) and baseline == SEGMENT_MEANS:
        filling = segment_means(backend, images, labels, coalitions.shape[-1])
    else:
        filling = filling_of(backend, images, baseline)

    def behind(chosen: Array) -> Array:
        masks = masks_of(backend.xp, chosen[:, None, :], labels)
        return scores_behind(backend, images, filling, wanted, masks, probability)

    scores = map_chunks(backend, behind, (coalitions,), most)
    return Game(outputs, scores_of(backend, wanted, outputs, probability), scores)


def _own(backend: Backend, labels: Array) -> Array:
    return backend.asarray(labels) if isinstance(labels, np.ndarray) else labels


def weighted_scores(backend: Backend, weights: Array, scores: Array) -> Array:
    """Return the values of the segments, `(..., N, M)`: a sum over scores `(V, ..., N)`.

    Args:
        backend: the model.
        weights: of each score in each value, `(V, M)`; each column sums to 0.
        scores: those of the coalitions.
    """
    xp, own = backend.xp, native(backend, weights, scores)
    # a constant has no effect, which is exact if it is left out: weights that sum to 0 only round
    flat = xp.reshape(scores - scores[:1, ...], (scores.shape[0], -1))
    values = xp.matmul(xp.matrix_transpose(flat), own)
    return xp.reshape(values, (*scores.shape[1:], own.shape[-1]))


def segment_maps(
    backend: Backend, game: Game, values: Array, labels: Array, **details: Array
) -> Maps:
    """Show every segment's value at its pixels, and keep the values themselves as well."""
    maps = masks_of(backend.xp, values, _own(backend, labels))
    return Maps(maps, game.outputs, {"values": values, **details})


def efficient_maps(
    backend: Backend, game: Game, values: Array, labels: Array, empty: Array, **details: Array
) -> Maps:
    """Make maps of values that sum to a difference of scores, and measure the error.

    Args:
        backend: the model.
        game: what was played.
        values: of the segments, `(..., N, M)`.
        labels: the segment of each pixel.
        empty: the scores of the baseline, `(..., N)`.
        details: further results.
    """
    delta = backend.xp.sum(values, axis=-1) - (game.score - empty)
    return segment_maps(backend, game, values, labels, completeness_delta=delta, **details)


def latin_hypercube(seed: int, count: int, dimensions: int) -> Floats:
    """Sample points of the unit cube, `(count, dimensions)`, evenly along every dimension."""
    drawn = uniform(seed, 2, count, dimensions)
    points: Floats = ((np.argsort(drawn[0], axis=0) + drawn[1]) / count).astype(np.float32)
    return points
