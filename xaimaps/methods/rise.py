"""RISE: random masks, each weighted by the score of the masked image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps._resampling import linear_weights
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._batching import map_chunks, variants_within, weighted_sum
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._masking import filling_of, scores_behind
from xaimaps.methods._noise import uniform
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered_maps


def draw_masks(
    shape: tuple[int, ...],
    *,
    n_masks: int = 4000,
    grid: int = 7,
    p: float = 0.5,
    seed: int = 0,
    **_: Any,
) -> dict[str, Any]:
    """Draw the cells `(n_masks, grid, ...)` of RISE's masks, and the shift of each mask.

    Raises:
        MethodError: an option is out of range.
    """
    check_count("n_masks", n_masks)
    check_count("grid", grid)
    if not 0 < p <= 1:
        raise MethodError(f"`p` must be above 0 and at most 1, got {p!r}")
    rank = len(shape) - 1
    drawn = uniform(seed, n_masks, grid**rank + rank)
    cells = np.reshape(drawn[:, :-rank] < p, (n_masks, *(grid,) * rank)).astype(np.float32)
    cell = -(-np.asarray(shape[:-1]) // grid)
    return {"cells": cells, "moves": (drawn[:, -rank:] * cell).astype(np.int32)}


@method(
    family="perturbation",
    needs={"forward"},
    paper="Petsiuk, Das, Saenko 2018, arXiv:1806.07421",
    cost="1 F + 4000 F",
    draws=draw_masks,
    is_relative=True,
)
def rise(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    n_masks: int = 4000,
    grid: int = 7,
    p: float = 0.5,
    seed: int = 0,
    baseline: Baseline = "zeros",
    probability: bool = True,
    variant: Literal["paper", "xplique", "centred"] = "paper",
    memory: float | None = None,
    cells: Array | None = None,
    moves: Array | None = None,
) -> Maps:
    r"""The mean of random masks, each weighted by the score of the masked image.

    For masks $m_v$, coarse grids of ones (with probability $p$) and zeros, enlarged and shifted:

    $$M_{ij} = \frac{1}{p n} \sum_{v=1}^{n} y(x \odot m_v)\, m_{v,ij}$$

    Every map has an offset, the mean score of the masked images; only differences have a meaning.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        n_masks: the number n of masks.
        grid: the number of cells to a side, before they are enlarged.
        p: the probability that a cell is visible.
        seed: of the masks, which are the same for all images and all backends.
        baseline: the pixels where a mask is 0, as in `occlusion`; the authors' choice is "zeros".
        probability: y is the probability of a class, as in the paper, instead of its score.
        variant: "paper"; "xplique" divides by the sum of the masks at each pixel instead of the
            expected sum; "centred" subtracts the mean over the masks from each score, so that a
            map has no offset.
        memory: limit for the values of one pass, in MB; None follows the device. It does not
            grow with `n_masks`.
        cells: ones and zeros `(n_masks, grid, grid)`; None draws them from `seed`.
        moves: shifts along each axis in pixels `(n_masks, 2)`; None draws them from `seed`.

    Returns:
        Maps of shape `(N, H, W)`, in units of the score.

    Raises:
        MethodError: there is no such variant or baseline, or an option is out of range.

    References:
        Petsiuk, Das, Saenko 2018, https://arxiv.org/abs/1806.07421

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import rise
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> rise(backend, images, 0, n_masks=50).maps.shape
        (1, 9, 9)
    """
    if variant not in ("paper", "xplique", "centred"):
        raise MethodError(f"`variant` must be 'paper', 'xplique' or 'centred', got {variant!r}")
    if cells is None or moves is None:
        drawn = draw_masks(images.shape[1:], n_masks=n_masks, grid=grid, p=p, seed=seed)
        cells, moves = drawn["cells"], drawn["moves"]
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    filling = filling_of(backend, images, baseline)
    enlarged = _enlarging(backend, images, cells.shape[-1])
    most = variants_within(backend, images, memory, gradient=False)
    drawn_masks = (
        native(backend, cells, images),
        backend.asarray(moves) if isinstance(moves, np.ndarray) else moves,
    )

    def behind(*drawn: Array) -> Array:
        return scores_behind(backend, images, filling, wanted, enlarged(*drawn), probability)

    scores = map_chunks(backend, behind, drawn_masks, most)
    if variant == "centred":
        scores = scores - xp.mean(scores, axis=0)

    total = _masks_sum(backend, images, enlarged, scores, drawn_masks, most)
    if variant == "xplique":
        cover = _masks_sum(backend, images, enlarged, xp.ones_like(scores), drawn_masks, most)
        return Maps(divided(xp, total, cover), outputs)
    return Maps(total / (p * scores.shape[0]), outputs)


def _masks_sum(
    backend: Backend,
    images: Array,
    enlarged: Callable[[Array, Array], Array],
    weights: Array,
    drawn_masks: tuple[Array, Array],
    most: int,
) -> Array:
    """Return the sum of all masks with weights `(n, ..., N)`: `(..., N, *spatial)`."""
    xp, size = backend.xp, images.shape[1:-1]

    def weighted(weights: Array, *drawn: Array) -> Array:
        masks = enlarged(*drawn)
        shape = (masks.shape[0], *(1,) * (len(weights.shape) - 1), *size)
        return weights[(..., *(None,) * len(size))] * xp.reshape(masks, shape)

    ones = xp.ones((weights.shape[0],), dtype=weights.dtype)
    start = xp.zeros((*weights.shape[1:], *size), dtype=weights.dtype)
    return weighted_sum(backend, weighted, ones, (weights, *drawn_masks), most, start)


def _enlarging(backend: Backend, images: Array, grid: int) -> Callable[[Array, Array], Array]:
    """Return a function from cells `(m, grid, ...)` and moves `(m, rank)` to `(m, 1, *spatial)`."""
    xp = backend.xp
    stacks = [native(backend, _moved_weights(grid, n), images) for n in images.shape[1:-1]]
    spread = (slice(None), *(None,) * (len(stacks) - 1), ...)

    def enlarged(cells: Array, moves: Array) -> Array:
        matrices = (xp.take(stack, moves[:, i], axis=0)[spread] for i, stack in enumerate(stacks))
        return filtered_maps(xp, cells[:, None, ...], *matrices)

    return enlarged


def _moved_weights(grid: int, size: int) -> np.ndarray[Any, Any]:
    """Return the matrices of a linear resize for every shift within a cell."""
    cell = -(-size // grid)
    whole = linear_weights(grid, (grid + 1) * cell)
    return np.stack([whole[start : start + size] for start in range(cell)])
