"""LIME: a linear model of the score around the image, over its segments."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._coalitions import SEGMENT_MEANS, play, segment_maps, weighted_scores
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._noise import Floats, uniform
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments, labels_of


def draw_neighbours(
    shape: tuple[int, ...],
    *,
    segments: Segments = 7,
    n_samples: int = 1000,
    kernel_width: float = 0.25,
    alpha: float = 1.0,
    seed: int = 0,
    images: Any = None,
    **_: Any,
) -> dict[str, Any]:
    """Draw the coalitions, the first of which is the image, and solve the regression.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_samples", n_samples, least=2, most=10**6)
    for name, value in (("kernel_width", kernel_width), ("alpha", alpha)):
        if not value > 0:
            raise MethodError(f"`{name}` must be above 0, got {value!r}")
    labels = labels_of(shape[:-1], segments, images)
    rows = (uniform(seed, n_samples, labels.max() + 1) < 0.5).astype(np.float32)
    rows[0] = 1
    kernel = proximity(rows, kernel_width)
    weights = ridge_weights(rows, kernel, alpha)
    return {"labels": labels, "coalitions": rows, "kernel": kernel, "weights": weights}


def proximity(coalitions: Floats, width: float) -> Floats:
    """Return the weight of each coalition, from its cosine distance to the image."""
    distance = 1 - np.sqrt(coalitions.mean(axis=1, dtype=np.float64))
    kernel: Floats = np.sqrt(np.exp(-((distance / width) ** 2))).astype(np.float32)
    return kernel


def ridge_weights(coalitions: Floats, kernel: Floats, alpha: float) -> Floats:
    """Return the weight of each score in each coefficient, `(V, M)`."""
    rows = coalitions.astype(np.float64)
    centred = rows - np.average(rows, axis=0, weights=kernel)
    weighted = centred * kernel[:, None]
    penalty = alpha * np.eye(rows.shape[1])
    return np.linalg.solve(centred.T @ weighted + penalty, weighted.T).T.astype(np.float32)


@method(
    family="perturbation",
    needs={"forward"},
    paper="Ribeiro, Singh, Guestrin 2016, arXiv:1602.04938",
    cost="1 F + 1000 F",
    draws=draw_neighbours,
)
def lime(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    segments: Segments = 7,
    n_samples: int = 1000,
    kernel_width: float = 0.25,
    alpha: float = 1.0,
    seed: int = 0,
    baseline: Baseline = SEGMENT_MEANS,
    probability: bool = True,
    memory: float | None = None,
    **drawn: Array,
) -> Maps:
    r"""The coefficients of a linear model of the score, by which segments of the image are visible.

    With $z \in \{0, 1\}^M$ random coalitions of M segments, of which the first is the image, and
    $d$ their cosine distance to it:

    $$\min_{w, b} \sum_v e^{-d_v^2 / 2 \sigma^2} \big(y(z_v) - w \cdot z_v - b\big)^2
    + \alpha |w|^2$$

    These are the kernel, the defaults and the baseline of the authors' library for images, except
    that its segments are superpixels. (Captum's Lime has a distance of images and the penalty
    $|w|_1$; xplique's has a Euclidean distance.) `details["r2"]` is the share of the weighted
    variance that the linear model explains; a map with a low share should not be believed.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        segments: the number of cells along each axis, one for all or one for each (an axis of fewer
            pixels has a cell for each); superpixels of each image, "slic", "quickshift" or
            "felzenszwalb"; or your own segments, integers `(H, W)` with a label for each pixel of
            the model's input.
        n_samples: the number of coalitions.
        kernel_width: the width sigma of the kernel.
        alpha: the penalty of large coefficients.
        seed: of the coalitions, which are the same for all images and all backends.
        baseline: the pixels of absent segments: "segments" is the mean colour of each of them;
            the others are those of `occlusion`.
        probability: y is the probability of a class, as in the authors' library, instead of its
            score.
        memory: limit for the values of one pass, in MB; None follows the device.
        drawn: `labels` `(H, W)`, `coalitions` and `weights` `(V, M)`, and `kernel` `(V,)`; without,
            drawn from `seed`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score: at each pixel the coefficient of
        its segment. `details["values"]` has those of the segments, `(N, M)`.

    Raises:
        MethodError: there is no such baseline, or an option is out of range.

    References:
        Ribeiro, Singh, Guestrin 2016, https://arxiv.org/abs/1602.04938

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import lime
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> lime(backend, images, 0, segments=3).details["values"].shape
        (1, 9)
    """
    drawn = drawn or draw_neighbours(
        images.shape[1:],
        segments=segments,
        n_samples=n_samples,
        kernel_width=kernel_width,
        alpha=alpha,
        seed=seed,
        images=images,
    )
    game = play(backend, images, target, drawn, baseline, probability, memory)
    values = weighted_scores(backend, drawn["weights"], game.scores)
    rows, kernel = (native(backend, drawn[name], images) for name in ("coalitions", "kernel"))
    r2 = _explained(backend.xp, values, game.scores, rows, kernel)
    return segment_maps(backend, game, values, drawn["labels"], r2=r2)


def _explained(xp: Any, values: Array, scores: Array, rows: Array, kernel: Array) -> Array:
    """Return the share of the weighted variance of scores that the linear model explains."""
    linear = xp.moveaxis(xp.matmul(values, xp.matrix_transpose(rows)), -1, 0)
    share = xp.reshape(kernel / xp.sum(kernel), (-1, *(1,) * (len(scores.shape) - 1)))

    def variance(values: Array) -> Array:
        centred = values - xp.sum(share * values, axis=0)
        return xp.sum(share * centred**2, axis=0)

    left, whole = variance(scores - linear), variance(scores)
    return xp.where(whole > 0, 1 - divided(xp, left, whole), xp.zeros_like(whole))
