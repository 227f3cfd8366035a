"""SESS: the map of another method over windows of several scales, weighted by their scores."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._base import Base, base_of
from xaimaps.methods._batching import (
    flatten_batch,
    map_chunks,
    tile_target,
    unflatten_batch,
    variants_within,
    weighted_sum,
)
from xaimaps.methods._channel_masks import unit_range
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._masking import scores_of
from xaimaps.methods._noise import Floats
from xaimaps.methods._options import Pairs, check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered, filtered_maps
from xaimaps.targets import Target

_SMOOTHING = 5 / 224
"""The authors' Gaussian, relative to the side of their images; it ends at one sigma."""

_MOST = 50
"""The most scales: the number of windows grows with the third power."""


@method(
    family="perturbation",
    needs={"forward"},
    paper="Tursun et al. 2022, arXiv:2207.01769",
    cost="1 F + 122 (F + base)",
    suits=lambda backend: "grad" in backend.capabilities,  # which the default base needs
)
def sess(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    base: str = "grad_cam",
    base_options: Pairs = (),
    n_scales: int = 12,
    scale_step: float = 2 / 7,
    pre_filter_ratio: float = 0.0,
    memory: float | None = None,
) -> Maps:
    r"""The map of another method over windows of several scales, weighted by their scores.

    The image is enlarged `n_scales` times, by 1, 1 + `scale_step`, 1 + 2 `scale_step`, ..., and
    divided into windows v of the size of the image. With the map $A_v$ of a window, scaled to 0 to
    1, the probability $p_v$ of the class in it, and $R_v$, which returns a map to the position and
    size of its window in the image:

    $$M = G * \frac{\sum_v B_v}{\sum_v [B_v > 0]}, \qquad
    B_v = R_v\Big(\frac{p_v}{\max_u p_u} A_v\Big)$$

    with a Gaussian G of a sigma of 5 pixels of 224, which ends at one sigma. A target that is no
    class has its score instead of the probability, where it is positive; if it is so in no
    window, all windows count alike.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        base: the method that makes A, such as "score_cam" for a backend without gradients; a map
            of a layer is enlarged.
        base_options: options of `base`, as pairs.
        n_scales: the number of scales; the first is the image itself.
        scale_step: how much a scale is larger than the one before, relative to the image.
        pre_filter_ratio: the share of the windows to leave out, those of the lowest scores.
        memory: limit for the values of one pass, in MB; None follows the device.

    Returns:
        Maps of shape `(N, H, W)`, 0 to 1.

    Raises:
        BackendError: the backend cannot run the base.
        MethodError: there is no such base, or an option is out of range.

    References:
        Tursun et al. 2022, https://arxiv.org/abs/2207.01769

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import sess
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> sess(backend, images, 0, n_scales=2).maps.shape
        (1, 9, 9)
    """
    _check(n_scales, scale_step, pre_filter_ratio)
    chosen, size = base_of(backend, base, base_options), tuple(images.shape[1:-1])
    xp, (outputs, goal) = backend.xp, named(backend, images, target)
    windows = _Windows(backend, images, goal, chosen)
    positions = native(backend, _positions(size, n_scales, scale_step), images)
    most = variants_within(backend, images, memory)
    scores = map_chunks(backend, windows.scores, (positions,), most)
    weights = _weights(xp, scores, pre_filter_ratio)
    start = xp.zeros((2, *scores.shape[1:], *size), dtype=images.dtype)
    each = xp.ones_like(positions[:, 0, 0])
    sums = weighted_sum(backend, windows.parts, each, (positions, weights), most, start)
    mean = divided(xp, sums[0, ...], sums[1, ...])
    smoothing = (native(backend, _smoothing(n), images) for n in size)
    return Maps(filtered_maps(xp, mean, *smoothing), outputs)


def _check(n_scales: int, scale_step: float, pre_filter_ratio: float) -> None:
    check_count("n_scales", n_scales, most=_MOST)
    if not 0 < scale_step <= 1:
        raise MethodError(f"`scale_step` must be above 0 and at most 1, got {scale_step}")
    if not 0 <= pre_filter_ratio < 1:
        raise MethodError(
            f"`pre_filter_ratio` must be at least 0 and below 1, got {pre_filter_ratio}"
        )


def _positions(size: tuple[int, ...], n_scales: int, scale_step: float) -> Floats:
    """Return by how much the image is enlarged, and where each window starts, `(V, axes, 2)`."""
    found = []
    for scale in range(n_scales):
        added = [scale * round(scale_step * n) for n in size]
        starts = map(_starts, size, added)
        found += [list(zip(added, start, strict=True)) for start in itertools.product(*starts)]
    return np.asarray(found, np.float32)


def _starts(window: int, added: int) -> list[int]:
    """Return where windows start that cover an axis; the last is moved back into the image."""
    return [min(start, added) for start in range(0, window + added, window)]


def _weights(xp: Any, scores: Array, pre_filter_ratio: float) -> Array:
    """Return the weight of each window, from its scores `(V, ..., N)`."""
    positive = xp.maximum(scores, xp.zeros_like(scores))
    top = xp.max(positive, axis=0, keepdims=True)
    weights = xp.where(top > 0, divided(xp, positive, top), xp.ones_like(scores))
    first = int(scores.shape[0] * pre_filter_ratio)
    lowest = xp.sort(scores, axis=0)[first : first + 1, ...]
    return xp.where(scores >= lowest, weights, xp.zeros_like(weights))


def _smoothing(n: int) -> Floats:
    """Return the matrix of a Gaussian that ends at one sigma, renormalised at the border."""
    sigma, positions = _SMOOTHING * n, np.arange(n)
    apart = np.abs(positions[:, None] - positions)
    bell = np.where(apart <= sigma, np.exp(-0.5 * (apart / sigma) ** 2), 0)
    return np.asarray(bell / bell.sum(axis=1, keepdims=True), np.float32)


class _Windows(NamedTuple):
    """The windows of a batch, and the method that explains them."""

    backend: Backend
    images: Array
    target: Target
    base: Base

    def scores(self, positions: Array) -> Array:
        """Return the probabilities of the windows, `(m, ..., N)`; scores if there are none."""
        windows, target = self._read(positions)
        outputs = self.backend.forward(windows)
        found = scores_of(self.backend, target, outputs, probability=True)
        return unflatten_batch(self.backend.xp, found, positions.shape[0], trailing=0)

    def parts(self, positions: Array, weights: Array) -> Array:
        """Return the maps in the image, and where they are positive, `(m, 2, ..., N, H, W)`."""
        xp, (windows, target) = self.backend.xp, self._read(positions)
        maps, rank = self.base.explain(self.backend, windows, target).maps, positions.shape[1]
        maps = unit_range(xp, maps, rank)
        maps = unflatten_batch(xp, maps, positions.shape[0], rank)
        maps = maps * weights[(..., *(None,) * rank)]
        maps = filtered_maps(xp, maps, *self._matrices(_writing, positions, len(maps.shape)))
        return xp.stack([maps, xp.astype(maps > 0, maps.dtype)], axis=1)

    def _read(self, positions: Array) -> tuple[Array, Target]:
        """Return windows `(m * N, H, W, C)`, and the target for them."""
        xp, count = self.backend.xp, positions.shape[0]
        matrices = self._matrices(_reading, positions, len(self.images.shape) + 1)
        found = filtered(xp, self.images, *matrices)
        return flatten_batch(xp, found), tile_target(self.backend, self.target, count)

    def _matrices(self, make: Any, positions: Array, axes: int) -> list[Array]:
        """Return a matrix of each window for each axis, for arrays `(m, ...)` of some axes."""
        spread = (slice(None), *(None,) * (axes - 3), ...)
        sizes = enumerate(self.images.shape[1:-1])
        return [make(self.backend.xp, positions[:, axis, :], n)[spread] for axis, n in sizes]


def _reading(xp: Any, positions: Array, n: int) -> Array:
    """Return the matrices of windows of the enlarged image, `(m, n, n)`."""
    added, starts = positions[:, :1], positions[:, 1:]
    whole = xp.arange(n, dtype=positions.dtype) + starts
    return _linear(xp, xp.clip((whole + 0.5) * n / (added + n) - 0.5, 0, n - 1), n)


def _writing(xp: Any, positions: Array, n: int) -> Array:
    """Return the matrices that put windows back, with zeros around them, `(m, n, n)`."""
    added, starts = positions[:, :1], positions[:, 1:]
    own = xp.arange(n, dtype=positions.dtype)
    weights = _linear(xp, (own + 0.5) * (added + n) / n - 0.5 - starts, n)
    # A rounding error is no weight: every pixel with one counts.
    return xp.where(weights < 0.25 / n, xp.zeros_like(weights), weights)


def _linear(xp: Any, centres: Array, n: int) -> Array:
    """Return the weights of n pixels at positions `(m, n)` between them, `(m, n, n)`."""
    distance = xp.abs(centres[..., None] - xp.arange(n, dtype=centres.dtype))
    return xp.maximum(1 - distance, xp.zeros_like(distance))
