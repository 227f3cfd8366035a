"""Integrated gradients from one or several baselines, and expected gradients."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.methods._baselines import (
    Baseline,
    baselines,
    default_baseline,
    draw_baselines,
    drawn_baselines,
)
from xaimaps.methods._batching import (
    align_targets,
    flatten_batch,
    gradients_of,
    tile_target,
    unflatten_batch,
    variants_within,
    weighted_sum,
    zero_maps,
)
from xaimaps.methods._maps import Maps, Reduce, complete, named, native
from xaimaps.methods._noise import Floats, uniform
from xaimaps.methods._options import check_count
from xaimaps.methods._quadrature import Rule, quadrature
from xaimaps.methods._registry import method


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Sundararajan et al. 2017, arXiv:1703.01365",
    cost="(n_steps + 2) F + n_steps B",
    draws=draw_baselines,
    defaults=lambda backend: {"baseline": default_baseline(backend)},
)
def integrated_gradients(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    n_steps: int = 50,
    rule: Rule = "gauss_legendre",
    baseline: Baseline = None,
    n_baselines: int = 4,
    seed: int = 0,
    reduce: Reduce = "sum",
    memory: float | None = None,
    noise: Array | None = None,
) -> Maps:
    r"""The gradient integrated along the straight line from a baseline to the image.

    $$M_{ij} = \sum_c (x_{ijc} - x'_{ijc}) \int_0^1
      \frac{\partial y}{\partial x_{ijc}}\big(x' + \alpha (x - x')\big)\, d\alpha$$

    The maps sum to the difference of the scores of image and baseline, up to the error of the
    quadrature, which is `details["completeness_delta"]`. The weights of every rule sum to 1 (those
    of Captum's trapezoid sum to (n - 1) / n).

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        n_steps: the number of points on the path.
        rule: the quadrature rule.
        baseline: the start of the path. A colour of the picture before preprocessing: "black",
            "white", "gray", "mean" (the image's mean colour), "blur" or "noise"; "zeros" or a
            preprocessed array `(H, W, C)`; or several `(B, H, W, C)`, over which the maps are
            averaged. None is black, or zeros if the model's preprocessing is unknown.
        n_baselines: the number of random baselines for "noise".
        seed: of the noise.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.
        noise: uniform `(n_baselines, H, W, C)` from 0 to 1; None draws it from `seed`.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    Raises:
        MethodError: there is no such rule or baseline.

    References:
        Sundararajan, Taly, Yan 2017, https://arxiv.org/abs/1703.01365

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import integrated_gradients
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> integrated_gradients(backend, images, 0, n_steps=10).maps.shape
        (1, 9, 9)
    """
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    starts = drawn_baselines(backend, images, baseline, n_baselines, seed, noise)
    points, weights = (native(backend, part, images) for part in quadrature(rule, n_steps))
    most = variants_within(backend, images, memory)
    zeros = zero_maps(xp, images, wanted, outputs)

    def add(total: Array, start: Array) -> tuple[Array, Array]:
        way = images - start

        def along(alphas: Array) -> Array:
            points = start + _spread(alphas, images) * way
            return gradients_of(backend, points, wanted)

        mean = weighted_sum(backend, along, weights, (points,), most, zeros)
        score = wanted.scores(xp, backend.forward(start + xp.zeros_like(images)))
        return total + way * mean, score

    total, scores = backend.scan(add, zeros, starts)
    return complete(xp, total / starts.shape[0], wanted, outputs, xp.mean(scores, axis=0), reduce)


def draw_samples(
    shape: tuple[int, ...],
    *,
    baseline: Baseline = "noise",
    n_samples: int = 50,
    seed: int = 0,
    **others: object,
) -> dict[str, Floats]:
    """Draw all random arrays of `expected_gradients`."""
    check_count("n_samples", n_samples)
    points = uniform(seed, 2, n_samples)
    drawn = {"alphas": points[0], "choices": points[1]}
    if isinstance(baseline, str) and baseline == "noise":
        drawn["noise"] = uniform(seed + 1, n_samples, *shape)
    return drawn


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Erion et al. 2021, arXiv:1906.10670",
    cost="(2 n_samples + 1) F + n_samples B",
    draws=draw_samples,
)
def expected_gradients(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    baseline: Baseline = "noise",
    n_samples: int = 50,
    seed: int = 0,
    reduce: Reduce = "sum",
    memory: float | None = None,
    noise: Array | None = None,
    alphas: Array | None = None,
    choices: Array | None = None,
) -> Maps:
    r"""Integrated gradients averaged over random baselines and path points (GradientSHAP).

    $$M_{ij} = \sum_c \mathbb{E}_{x' \sim D,\, \alpha \sim U(0, 1)} \Big[ (x_{ijc} - x'_{ijc})
      \frac{\partial y}{\partial x_{ijc}}\big(x' + \alpha (x - x')\big) \Big]$$

    `details["completeness_delta"]` is the sum of a map minus the difference between the score and
    the mean score of the sampled baselines.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        baseline: the distribution of baselines: preferably images of the training set as an array
            `(B, H, W, C)`; "noise" is uniform pixels. See `integrated_gradients`.
        n_samples: the number of pairs of a baseline and a point on the path from it.
        seed: of all random arrays.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.
        memory: limit for the values of one pass, in MB; None follows the device.
        noise: uniform `(n_samples, H, W, C)`; None draws it and the next two from `seed`.
        alphas: uniform `(n_samples,)`, the points on the paths.
        choices: uniform `(n_samples,)`, which select the baselines.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    References:
        Erion et al. 2021, https://arxiv.org/abs/1906.10670

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import expected_gradients
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> expected_gradients(backend, images, 0, baseline="zeros", n_samples=5).maps.shape
        (1, 9, 9)
    """
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    if alphas is None or choices is None:
        drawn = draw_samples(images.shape[1:], baseline=baseline, n_samples=n_samples, seed=seed)
        noise, alphas, choices = drawn.get("noise"), drawn["alphas"], drawn["choices"]
    starts = baselines(backend, images, baseline, noise)
    points = native(backend, alphas, images)
    chosen = xp.floor(native(backend, choices, images) * starts.shape[0])
    if isinstance(baseline, str) and baseline == "noise":  # a new one for every sample
        chosen = xp.arange(starts.shape[0], dtype=points.dtype)

    def sample(alphas: Array, which: Array) -> Array:
        start = xp.take(starts, xp.astype(which, xp.int32), axis=0)
        way = images - start
        gradients = gradients_of(backend, start + _spread(alphas, images) * way, wanted)
        return align_targets(gradients, way) * gradients

    most = variants_within(backend, images, memory)
    weights = xp.full_like(points, 1 / points.shape[0])
    zeros = zero_maps(xp, images, wanted, outputs)
    total = weighted_sum(backend, sample, weights, (points, chosen), most, zeros)

    def score(which: Array) -> Array:
        start = xp.take(starts, xp.astype(which, xp.int32), axis=0) + xp.zeros_like(images)
        found = backend.forward(flatten_batch(xp, start))
        scores = tile_target(backend, wanted, start.shape[0]).scores(xp, found)
        return unflatten_batch(xp, scores, start.shape[0], trailing=0)

    none = xp.zeros_like(wanted.scores(xp, outputs))
    start_scores = weighted_sum(backend, score, weights, (chosen,), most, none)
    return complete(xp, total, wanted, outputs, start_scores, reduce)


def _spread(alphas: Array, images: Array) -> Array:
    """Return points on a path `(m,)` with axes for the images."""
    return alphas[(slice(None), *(None,) * len(images.shape))]
