"""Extremal perturbations: the smooth mask of a given area under which the score is the highest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._filters import gaussian
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered
from xaimaps.methods._smooth_mask import Grid, Mask, grid_for
from xaimaps.targets import Target

_STEP, _SIGMA, _BLUR = 7 / 224, 21 / 224, 20 / 224
"""The authors' distance and radius of cells and widest blur, relative to the longer side."""

_LEVELS = 7
"""The number of blurs."""

_RATE, _MOMENTUM = 0.01, 0.9
"""Of the gradient ascent."""

_TIE = 1e-4
"""Values of a mask that differ by less are equal."""

_WEIGHT, _GROWTH = 300, 1.0035
"""The weight of the area at first, and its growth in each step."""


_LEAST_SIDE = 64
"""The least side of images with more than a few pixels to a cell."""


def _suits(backend: Backend) -> bool:
    *size, _ = backend.input_shape
    return len(size) == 2 and all(side is None or side >= _LEAST_SIDE for side in size)


@method(
    family="perturbation",
    needs={"forward", "grad"},
    paper="Fong, Patrick, Vedaldi 2019, arXiv:1910.08485",
    cost="1 F + n_steps (F + B), one after another",
    suits=_suits,
    is_relative=True,
    is_sensitive=True,
)
def extremal_perturbation(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    area: float = 0.1,
    n_steps: int = 800,
    jitter: bool = True,
) -> Maps:
    r"""The smooth mask of a given area under which the score of the image is the highest.

    With the image $x_m$, which is blurred the more the smaller the mask m is, the sorted mask
    $\mathrm{sort}(m)$, and $r_a$, zeros and then ones for the share a of its pixels:

    $$m = \mathrm{argmax}_m\, y(x_m) - \lambda\, \mathrm{mean}
    \big((\mathrm{sort}(m) - r_a)^2\big)$$

    The mask is the smooth maximum of cells on a coarse grid. They start as ones, and follow the
    gradient with momentum, while $\lambda$ grows from 300 by 0.35 % in each step. The settings are
    those of the authors' code, TorchRay; distances, there in pixels of images of 224, are relative
    to the longer side. As there, the area is a share of the mask with its margin, which has 1.35
    times the pixels of a square image. Equal values, as all at first, share what is left of the
    area, where TorchRay takes those at the bottom.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        area: the share of the mask that is to be 1.
        n_steps: the number of steps.
        jitter: mirror the masked image in every second step, from left to right.

    Returns:
        Masks of shape `(N, H, W)`, 0 to 1. The score of the masked image before each step is
        `details["masked_scores"]`, `(N, n_steps)`.

    Raises:
        MethodError: an option is out of range, or the images have other than two axes.

    References:
        Fong, Patrick, Vedaldi 2019, https://arxiv.org/abs/1910.08485

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import extremal_perturbation
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> extremal_perturbation(backend, images, 0, n_steps=2).maps.shape
        (1, 9, 9)
    """
    _check(images, area, n_steps)
    xp, (outputs, goal) = backend.xp, named(backend, images, target)
    side = max(images.shape[1:-1])
    grid = grid_for(backend, images, max(1, round(_STEP * side)), _SIGMA * side)
    levels = _blurred(backend, images, _BLUR * side)
    searches = [_Search(backend, levels, grid, part, area) for part in goal.parts]
    masks, scores = (
        xp.stack(list(part))
        for part in zip(*(one.run(n_steps, jitter) for one in searches), strict=True)
    )
    if not goal.is_several:
        masks, scores = masks[0, ...], scores[0, ...]
    return Maps(masks, outputs, {"masked_scores": scores})


def _check(images: Array, area: float, n_steps: int) -> None:
    check_count("n_steps", n_steps)
    if not 0 < area < 1:
        raise MethodError(f"`area` must be between 0 and 1, got {area}")
    if len(images.shape) != 4:
        raise MethodError(
            "extremal_perturbation needs images (N, H, W, C), got shape "
            f"{tuple(images.shape)}; use occlusion or rise"
        )


def _blurred(backend: Backend, images: Array, most: float) -> Array:
    """Return the images from the most blurred to the sharp ones, `(levels, N, H, W, C)`."""
    sigmas = native(backend, np.linspace(most, 0, _LEVELS + 1, dtype=np.float32), images)
    sides = (gaussian(backend.xp, n, sigmas, most).matrix for n in images.shape[1:-1])
    return filtered(backend.xp, images, *(side[:, None, None, ...] for side in sides))


class _Search(NamedTuple):
    """The search for the masks of one target."""

    backend: Backend
    levels: Array
    grid: Grid
    target: Target
    area: float

    def run(self, n_steps: int, jitter: bool) -> tuple[Array, Array]:
        """Maximise the scores; return the masks, and the scores `(N, n_steps)`."""
        xp, count = self.backend.xp, self.levels.shape[1]

        def step(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[Any, Array]:
            (cells, velocity), (flip, share, weight) = carry, now
            mask = self.grid.mask(cells)
            slopes, scores = self._slopes(mask.inner, flip)
            slopes = mask.pull(slopes, -weight * self._excess(mask))
            velocity = _MOMENTUM * velocity + share * slopes
            return (xp.clip(cells + _RATE * velocity, 0.0, 1.0), velocity), scores

        ones = xp.ones((count, *self.grid.size), dtype=self.levels.dtype)
        turns = np.arange(n_steps)
        flips = (turns % 2 == 0) & jitter
        shares = np.where(turns == 0, 1, 1 - _MOMENTUM)  # the first velocity is the gradient
        settings = (flips, shares, _WEIGHT * _GROWTH**turns)
        xs = tuple(native(self.backend, np.asarray(one, np.float32), ones) for one in settings)
        (cells, _), scores = self.backend.scan(step, (ones, xp.zeros_like(ones)), xs)
        masks = xp.clip(self.grid.mask(cells).inner, 0.0, 1.0)
        return masks, xp.moveaxis(scores, 0, -1)

    def _slopes(self, masks: Array, flip: Array) -> tuple[Array, Array]:
        """Return the gradients of the scores by masks `(N, H, W)`, and the scores."""
        xp = self.backend.xp
        steps = self.levels[1:, ...] - self.levels[:-1, ...]
        depth = xp.arange(_LEVELS, dtype=masks.dtype)[:, None, None, None]
        above = (_LEVELS * masks - depth)[..., None]
        images = self.levels[0, ...] + xp.sum(xp.clip(above, 0.0, 1.0) * steps, axis=0)
        found = self.backend.grad(_mirrored(xp, images, flip), self.target)
        inside = xp.astype((above >= 0) & (above < 1), steps.dtype)
        by_masks = _LEVELS * xp.sum(inside * steps, axis=0)
        return xp.sum(_mirrored(xp, found.gradients, flip) * by_masks, axis=-1), found.scores

    def _excess(self, mask: Mask) -> Array:
        """Return the gradient of the mean squared difference of the sorted mask from the area."""
        xp, whole = self.backend.xp, mask.whole
        flat = xp.reshape(whole, (whole.shape[0], -1))
        first = int(flat.shape[-1] * (1 - self.area))
        least = xp.sort(flat, axis=-1)[:, first : first + 1]
        # Equal values differ by rounding errors, so their order would be arbitrary: they share.
        above, least_or_above = (
            xp.astype(flat > least + side, flat.dtype) for side in (_TIE, -_TIE)
        )
        equal = least_or_above - above
        left = flat.shape[-1] - first - xp.sum(above, axis=-1, keepdims=True)
        wanted = above + equal * (left / xp.sum(equal, axis=-1, keepdims=True))
        return xp.reshape(2 * (flat - wanted) / flat.shape[-1], whole.shape)


def _mirrored(xp: Any, images: Array, flip: Array) -> Array:
    """Mirror the columns of `(N, H, W, C)` where `flip` is above 0."""
    return xp.where(flip > 0, xp.flip(images, axis=2), images)
