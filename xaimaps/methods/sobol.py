"""Sobol indices of segments: the share of the variance of the score that involves each."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import ROUNDING, latin_hypercube, play, segment_maps
from xaimaps.methods._maps import Maps
from xaimaps.methods._masking import default_filling
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments, labels_of


def draw_designs(
    shape: tuple[int, ...],
    *,
    segments: Segments = 8,
    n_designs: int = 32,
    seed: int = 0,
    images: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Draw Jansen's designs: A, and for each segment A with the segment's column of another one.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_designs", n_designs, least=2, most=10**4)
    labels = labels_of(shape[:-1], segments, images)
    count = int(labels.max()) + 1
    first, second = np.split(latin_hypercube(seed, n_designs, 2 * count), 2, axis=1)
    swapped = np.where(np.eye(count, dtype=bool)[:, None], second, first)
    designs = np.concatenate([first[None], swapped])
    return {"labels": labels, "coalitions": designs.reshape(-1, count)}


@method(
    family="perturbation",
    needs={"forward"},
    paper="Fel et al. 2021, arXiv:2111.04138",
    cost="1 F + 2080 F",
    draws=draw_designs,
    defaults=lambda backend: {"baseline": default_filling(backend)},
    tolerance=1e-3,  # a ratio of small differences of large scores
)
def sobol(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    segments: Segments = 8,
    n_designs: int = 32,
    seed: int = 0,
    baseline: Baseline = None,
    probability: bool = False,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The share of the variance of the score that involves a segment, when all fade at random.

    Each segment fades towards the baseline by its own random amount. With designs A of such
    amounts, and $C_m$ those in which only the amounts of segment $m$ are drawn again, the total
    index by Jansen's estimator is

    $$S_m = \frac{1}{2 n \, \mathrm{Var}\, y(A)} \sum_{v=1}^{n} \big(y(A_v) - y(C_{m,v})\big)^2$$

    Interactions count for each of their segments, so that the indices sum to 1 or more. The amounts
    are Latin hypercubes; xplique's are a Sobol sequence. Other estimators need far more designs.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        segments: the number of cells along each axis, one for all or one for each (an axis of fewer
            pixels has a cell for each); superpixels of each image, "slic", "quickshift" or
            "felzenszwalb"; or your own segments, integers `(H, W)` with a label for each pixel of
            the model's input.
        n_designs: the number n of designs; each takes a pass, and one more for each segment.
        seed: of the designs, which are the same for all images and all backends.
        baseline: what segments are faded to, as in `occlusion`; None is gray, or zeros if the
            model's preprocessing is unknown.
        probability: y is the probability of a class instead of its score.
        memory: limit for the values of one pass, in MB; None follows the device.
        drawn: `labels` `(H, W)`, and `coalitions` `((M + 1) n, M)`; without, drawn from `seed`.

    Returns:
        Maps of shape `(N, H, W)` without sign or unit: at each pixel the index of its segment, all
        0 for a constant score. `details["values"]` has those of the segments, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Fel et al. 2021, https://arxiv.org/abs/2111.04138;
        Jansen 1999, https://doi.org/10.1016/S0010-4655(98)00154-4

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import sobol
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> sobol(backend, images, 0, segments=3).details["values"].shape
        (1, 9)
    """
    drawn = drawn or draw_designs(
        images.shape[1:], segments=segments, n_designs=n_designs, seed=seed, images=images
    )
    game = play(backend, images, target, drawn, baseline, probability, memory)
    values = total_indices(backend.xp, game.scores, drawn["coalitions"].shape[-1])
    return segment_maps(backend, game, values, drawn["labels"])


def total_indices(xp: Any, scores: Array, count: int) -> Array:
    """Return Jansen's total indices `(..., N, M)` of scores `((M + 1) n, ..., N)`."""
    designs = xp.reshape(scores, (count + 1, -1, *scores.shape[1:]))
    first = designs[0, ...]
    changes = xp.mean((designs[1:, ...] - first) ** 2, axis=1)
    variance = xp.sum((first - xp.mean(first, axis=0)) ** 2, axis=0) / (first.shape[0] - 1)
    rounding = (ROUNDING * xp.max(xp.abs(scores), axis=0)) ** 2
    variance = xp.where(variance > rounding, variance, xp.zeros_like(variance))
    return xp.moveaxis(divided(xp, changes / 2, xp.zeros_like(changes) + variance), 0, -1)
