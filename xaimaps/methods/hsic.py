"""HSIC: how strongly the score depends on whether a segment is visible."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import ROUNDING, latin_hypercube, play, segment_maps
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._masking import default_filling
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments, labels_of

MOST = 20_000
"""Samples whose matrix of all pairs still fits into memory."""


def draw_halves(
    shape: tuple[int, ...],
    *,
    segments: Segments = 8,
    n_samples: int = 1000,
    seed: int = 0,
    images: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Draw coalitions in which every segment is visible in half of the samples.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_samples", n_samples, least=2, most=MOST)
    labels = labels_of(shape[:-1], segments, images)
    points = latin_hypercube(seed, n_samples, labels.max() + 1)
    return {"labels": labels, "coalitions": (points > 0.5).astype(np.float32)}


@method(
    family="perturbation",
    needs={"forward"},
    paper="Novello, Fel, Vigouroux 2022, arXiv:2206.06219",
    cost="1 F + 1000 F",
    draws=draw_halves,
    defaults=lambda backend: {"baseline": default_filling(backend)},
)
def hsic(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    segments: Segments = 8,
    n_samples: int = 1000,
    seed: int = 0,
    baseline: Baseline = None,
    probability: bool = False,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The dependence of the score on whether a segment is visible, by kernels of both.

    With $a_v \in \{0, 1\}$ whether segment $m$ is visible in coalition $v$, the centring matrix
    $H$, and the kernels $K_{uv} = 1/2 - (a_u - a_v)^2$ and
    $L_{uv} = e^{-(y_u - y_v)^2 / 2 w^2}$:

    $$\mathrm{HSIC}_m = \frac{1}{n} \, \mathrm{tr}(H K H \, H L H)$$

    The width $w$ is the median of $|y_u - y_v|$. xplique's is the median of the scores themselves,
    so that its maps change if a constant is added to the score.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        segments: the number of cells along each axis, one for all or one for each (an axis of fewer
            pixels has a cell for each); superpixels of each image, "slic", "quickshift" or
            "felzenszwalb"; or your own segments, integers `(H, W)` with a label for each pixel of
            the model's input.
        n_samples: the number n of coalitions.
        seed: of the coalitions, which are the same for all images and all backends.
        baseline: the pixels of absent segments, as in `occlusion`; None is gray, or zeros if the
            model's preprocessing is unknown.
        probability: y is the probability of a class instead of its score.
        memory: limit for the values of one pass, in MB; None follows the device. The kernel L has
            n x n values besides.
        drawn: `labels` `(H, W)`, and `coalitions` `(n, M)`; without, drawn from `seed`.

    Returns:
        Maps of shape `(N, H, W)` without sign or unit: at each pixel the index of its segment, all
        0 for a constant score. `details["values"]` has those of the segments, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Novello, Fel, Vigouroux 2022, https://arxiv.org/abs/2206.06219

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import hsic
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> hsic(backend, images, 0, segments=3, n_samples=64).details["values"].shape
        (1, 9)
    """
    drawn = drawn or draw_halves(
        images.shape[1:], segments=segments, n_samples=n_samples, seed=seed, images=images
    )
    game = play(backend, images, target, drawn, baseline, probability, memory)
    xp, rows = backend.xp, native(backend, drawn["coalitions"], images)

    def one(carry: Array, scores: Array) -> tuple[Array, Array]:
        return carry, dependence(xp, rows, scores, median_distance(xp, scores))

    # One image after the other, as each has a matrix of all pairs of coalitions.
    columns = xp.matrix_transpose(xp.reshape(game.scores, (game.scores.shape[0], -1)))
    _, values = backend.scan(one, xp.zeros((1,)), columns)
    values = xp.reshape(values, (*game.scores.shape[1:], rows.shape[-1]))
    return segment_maps(backend, game, values, drawn["labels"])


def median_distance(xp: Any, scores: Array) -> Array:
    """Return the median of the distances of all pairs of scores `(n,)`.

    Where that is rounding, it is the size of the scores, so that constant ones depend on nothing.
    """
    n = scores.shape[0]
    distances = xp.sort(xp.reshape(xp.abs(scores[:, None] - scores), (-1,)))
    # The first n are those of each score to itself; every other one is there twice.
    found = distances[(n + n * n) // 2]
    size = xp.max(xp.abs(scores))
    size = xp.where(size > 0, size, xp.ones_like(size))
    return xp.where(found > ROUNDING * size, found, size)


def dependence(xp: Any, rows: Array, scores: Array, width: Array) -> Array:
    """Return the indices `(M,)` of coalitions `(n, M)` and scores `(n,)`.

    The centred kernel of two values is twice the product of the centred values.
    """
    kernel = xp.exp(-((scores[:, None] - scores) ** 2) / (2 * width**2))
    centred = rows - xp.mean(rows, axis=0)
    return 2 * xp.sum(centred * xp.matmul(kernel, centred), axis=0) / scores.shape[0]
