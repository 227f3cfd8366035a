"""Guided IG: integrated gradients along a path that changes small-gradient pixels first."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline, baselines, default_baseline
from xaimaps.methods._maps import Maps, Reduce, complete, named, native
from xaimaps.methods._options import check_count
from xaimaps.methods._quadrature import quadrature
from xaimaps.methods._registry import method
from xaimaps.targets import Target

_THERE = 1e-6  # a value closer to its goal than this fraction of its path has arrived


@method(
    family="gradient",
    needs={"forward", "grad"},
    paper="Kapishnikov et al. 2021, arXiv:2106.09788",
    cost="(n_steps + 2) F + n_steps B, one after another",
    defaults=lambda backend: {"baseline": default_baseline(backend)},
    is_sensitive=True,
)
def guided_ig(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    n_steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    baseline: Baseline = None,
    reduce: Reduce = "sum",
) -> Maps:
    r"""The gradient integrated along a path that moves pixels with small gradients first.

    At every step the values with the smallest gradients move towards the image first, a
    `fraction` of them at a time, until the distance $|x - \gamma|_1$ is that of the straight path;
    then $M_{ij} = \sum_c \sum_s \frac{\partial y}{\partial x_{ijc}}(\gamma_s) \,
    (\gamma_{s+1} - \gamma_s)_{ijc}$. No value may be farther from the straight path than `max_dist`
    of the distance between baseline and image, so that 0 gives integrated gradients (left Riemann).

    Each step depends on the one before, so `n_steps` passes run one after another for each target.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        n_steps: the number of points on the path.
        fraction: the fraction of an image's values to move at a time, above 0 and up to 1.
        max_dist: the largest deviation from the straight path, 0 to 1.
        baseline: the start of the path; see `integrated_gradients`. One image, not noise.
        reduce: "sum" (keeps the total), "max" or "mean" over the channels; None keeps them.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score. Their sum minus the difference of
        the scores is `details["completeness_delta"]`.

    Raises:
        MethodError: an option is out of range, or there are several baselines.

    References:
        Kapishnikov et al. 2021, https://arxiv.org/abs/2106.09788

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import guided_ig
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> guided_ig(backend, images, 0, n_steps=10).maps.shape
        (1, 9, 9)
    """
    _check(n_steps, fraction, max_dist)
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    starts = baselines(backend, images, baseline)
    if starts.shape[0] != 1:
        raise MethodError(
            f"`baseline` must be one image for guided_ig, got {starts.shape[0]}; average the maps "
            "of several calls"
        )
    start = starts[0, ...] + xp.zeros_like(images)
    walk = _Walk(backend, images, start, n_steps, fraction, max_dist)
    parts = [walk.attribution(part) for part in wanted.parts]
    values = xp.stack(parts) if wanted.is_several else parts[0]
    return complete(xp, values, wanted, outputs, wanted.scores(xp, backend.forward(start)), reduce)


def _check(n_steps: int, fraction: float, max_dist: float) -> None:
    check_count("n_steps", n_steps)
    if not 0 < fraction <= 1:
        raise MethodError(f"`fraction` must be above 0 and up to 1, got {fraction!r}")
    if not 0 <= max_dist <= 1:
        raise MethodError(f"`max_dist` must be from 0 to 1, got {max_dist!r}")


class _Walk(NamedTuple):
    """A batch of paths from `start` to `images`."""

    backend: Backend
    images: Array
    start: Array
    n_steps: int
    fraction: float
    max_dist: float

    def attribution(self, target: Target) -> Array:
        """Return the sum of gradient x step, `(N, H, W, C)`."""
        ends = native(self.backend, quadrature("riemann_right", self.n_steps).points, self.images)

        def step(carry: tuple[Array, Array], alpha: Array) -> tuple[tuple[Array, Array], None]:
            point, total = carry
            gradients = self.backend.grad(point, target).gradients
            moved = self._moved(point, gradients, alpha)
            return (moved, total + (moved - point) * gradients), None

        total: Array = self.backend.scan(step, (self.start, self.start * 0), ends)[0][1]
        return total

    def _moved(self, point: Array, gradients: Array, alpha: Array) -> Array:
        """Return the end of a step: as far from the image as the straight path at `alpha`."""
        xp, way = self.backend.xp, self.images - self.start
        low, high = (xp.clip(alpha + side, 0.0, 1.0) for side in (-self.max_dist, self.max_dist))
        point = xp.where((point - self.start - low * way) * way < 0, self.start + low * way, point)
        reach = self.start + high * way - point
        excess = self._distance(point) - (1 - alpha) * self._distance(self.start)
        there = xp.abs(reach) <= _THERE * xp.abs(way)
        steepness = xp.where(there, xp.full_like(reach, xp.inf), xp.abs(gradients))
        shares = self._shares(self._flat(steepness), self._flat(xp.abs(reach)), excess)
        return point + xp.reshape(shares, point.shape) * reach

    def _shares(self, steepness: Array, lengths: Array, excess: Array) -> Array:
        """Return the fraction by which each value `(N, H * W * C)` moves; flat ones move first."""
        xp, count = self.backend.xp, steepness.shape[-1]
        ordered = xp.sort(steepness, axis=-1)
        size = int(self.fraction * (count - 1)) + 1

        def group(carry: tuple[Array, ...], _: Array) -> tuple[tuple[Array, ...], None]:
            shares, before, covered = carry
            passed = xp.sum(xp.astype(steepness <= before, xp.int32), axis=-1, keepdims=True)
            last = xp.minimum(passed + size - 1, xp.full_like(passed, count - 1))
            threshold = xp.take_along_axis(ordered, last, axis=-1)
            chosen = (steepness > before) & (steepness <= threshold) & (steepness < xp.inf)
            length = xp.sum(xp.where(chosen, lengths, xp.zeros_like(lengths)), axis=-1)
            part = (excess - covered) / xp.where(length > 0, length, xp.ones_like(length))
            part = xp.clip(part, 0.0, 1.0)[:, None]
            shares = shares + xp.where(chosen, part, xp.zeros_like(part))
            return (shares, threshold, covered + length), None

        none = (xp.zeros_like(lengths), -xp.ones_like(lengths[:, :1]), xp.zeros_like(excess))
        turns = xp.zeros((math.ceil(count / size) + 1,), dtype=lengths.dtype)
        shares: Array = self.backend.scan(group, none, turns)[0][0]
        return shares

    def _distance(self, point: Array) -> Array:
        return self.backend.xp.sum(self._flat(self.backend.xp.abs(self.images - point)), axis=-1)

    def _flat(self, values: Array) -> Array:
        return self.backend.xp.reshape(values, (values.shape[0], math.prod(values.shape[1:])))
