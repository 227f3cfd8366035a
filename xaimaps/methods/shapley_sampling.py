"""Shapley values of segments, by random orders in which they appear."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import efficient_maps, play
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._masking import default_filling
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments, labels_of


def draw_orders(
    shape: tuple[int, ...],
    *,
    segments: Segments = 7,
    n_permutations: int = 40,
    antithetic: bool = True,
    seed: int = 0,
    images: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Draw the place of each segment in each order, `(n_permutations, M)`.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_permutations", n_permutations, most=10**4)
    labels = labels_of(shape[:-1], segments, images)
    drawn = uniform(seed, n_permutations, labels.max() + 1)
    if antithetic:
        drawn[1::2] = 1 - drawn[: n_permutations - 1 : 2]
    return {"labels": labels, "ranks": np.argsort(np.argsort(drawn)).astype(np.int32)}


@method(
    family="perturbation",
    needs={"forward"},
    paper="Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004",
    cost="1 F + 1922 F",
    draws=draw_orders,
    defaults=lambda backend: {"baseline": default_filling(backend)},
)
def shapley_sampling(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    segments: Segments = 7,
    n_permutations: int = 40,
    antithetic: bool = True,
    seed: int = 0,
    baseline: Baseline = None,
    probability: bool = False,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The mean change of the score when a segment appears, over random orders of all segments.

    For orders $\pi_v$, with $S_v^m$ the segments that come before segment $m$:

    $$\phi_m = \frac{1}{n} \sum_{v=1}^{n} \big(y(S_v^m \cup \{m\}) - y(S_v^m)\big)$$

    The values of the segments are unbiased estimates of their Shapley values, and sum to the
    difference of the scores of the image and the baseline: `details["completeness_delta"]` is the
    error, from rounding. `details["standard_error"]` is that of the estimates (0 for one order).

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        segments: the number of cells along each axis, one for all or one for each (an axis of fewer
            pixels has a cell for each); superpixels of each image, "slic", "quickshift" or
            "felzenszwalb"; or your own segments, integers `(H, W)` with a label for each pixel of
            the model's input.
        n_permutations: the number n of orders; each takes a pass for each segment.
        antithetic: every second order is the reverse of the one before, which usually lowers the
            error.
        seed: of the orders, which are the same for all images and all backends.
        baseline: the pixels of absent segments, as in `occlusion`; None is gray, or zeros if the
            model's preprocessing is unknown.
        probability: y is the probability of a class instead of its score.
        memory: limit for the values of one pass, in MB; None follows the device.
        drawn: `labels` `(H, W)` and `ranks` `(n_permutations, M)`; without, drawn from `seed`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score: at each pixel the value of its
        segment. `details["values"]` has those of the segments, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Castro, Gomez, Tejada 2009, https://doi.org/10.1016/j.cor.2008.04.004;
        Mitchell et al. 2022, https://arxiv.org/abs/2104.12199

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import shapley_sampling
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> shapley_sampling(backend, images, 0, segments=3).details["values"].shape
        (1, 9)
    """
    xp = backend.xp
    drawn = drawn or draw_orders(
        images.shape[1:],
        segments=segments,
        n_permutations=n_permutations,
        antithetic=antithetic,
        seed=seed,
        images=images,
    )
    ranks = native(backend, drawn["ranks"], images)
    orders, count = ranks.shape
    # In each order, those of the first k places are visible, for k from 1 to M - 1.
    places = xp.astype(xp.arange(1, count), images.dtype)
    within = xp.astype(ranks[:, None, :] < places[:, None], images.dtype)
    ends = xp.stack([xp.zeros_like(ranks[0, ...]), xp.ones_like(ranks[0, ...])])
    coalitions = xp.concat([ends, xp.reshape(within, (-1, count))])
    game = play(
        backend, images, target, {**drawn, "coalitions": coalitions}, baseline, probability, memory
    )
    changes = _changes(xp, game.scores, ranks)
    if antithetic and orders % 2 == 0:
        changes = xp.mean(xp.reshape(changes, (-1, 2, *changes.shape[1:])), axis=1)
    details = {"standard_error": _standard_error(xp, changes)}
    means = xp.mean(changes, axis=0)
    return efficient_maps(backend, game, means, drawn["labels"], game.scores[0, ...], **details)


def _changes(xp: Any, scores: Array, ranks: Array) -> Array:
    """Return the change by each segment in each order, `(n_permutations, ..., N, M)`."""
    orders, count = ranks.shape
    flat = xp.reshape(scores, (scores.shape[0], -1))
    within = xp.reshape(flat[2:, :], (orders, count - 1, -1))
    empty, full = (xp.zeros_like(within[:, :1, :]) + flat[i, :] for i in (0, 1))
    along = xp.concat([within, full], axis=1) - xp.concat([empty, within], axis=1)
    chosen = xp.astype(ranks[..., None] == xp.astype(xp.arange(count), ranks.dtype), along.dtype)
    changes = xp.matrix_transpose(xp.matmul(chosen, along))
    return xp.reshape(changes, (orders, *scores.shape[1:], count))


def _standard_error(xp: Any, changes: Array) -> Array:
    """Return the standard error of the mean over independent samples; 0 for one sample."""
    n = changes.shape[0]
    squares = xp.sum((changes - xp.mean(changes, axis=0)) ** 2, axis=0)
    return xp.sqrt(squares / (n * max(n - 1, 1)))
