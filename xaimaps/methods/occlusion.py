"""Occlusion: the drop of the score when a sliding window hides a part of the image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._arithmetic import divided
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._batching import MEMORY, map_chunks, variants_within
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._masking import default_filling, filling_of, scores_behind
from xaimaps.methods._noise import Floats
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered_maps

Extent = int | tuple[int, int] | None


@method(
    family="perturbation",
    needs={"forward"},
    paper="Zeiler, Fergus 2014, arXiv:1311.2901",
    cost="1 F + 1 F for each window (169)",
    defaults=lambda backend: {"baseline": default_filling(backend)},
)
def occlusion(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    window: Extent = None,
    stride: Extent = None,
    baseline: Baseline = None,
    variant: Literal["mean", "sum"] = "mean",
    memory: float = MEMORY,
) -> Maps:
    r"""The drop of the score when a window of the image is hidden.

    With $x_v$ the image with a window at position $v$ hidden, and $W_{ij}$ the windows that cover
    a pixel:

    $$M_{ij} = \frac{1}{|W_{ij}|} \sum_{v \in W_{ij}} \big(y(x) - y(x_v)\big)$$

    The windows at the right and lower edges are cut off at the border of the image, as Captum's.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        window: height and width, or one number for both; None is a seventh of the image's.
        stride: the step from one window to the next; None is half of the window.
        baseline: the pixels in the window: "black", "white", "gray", "mean" (the image's mean
            colour), "blur", "zeros" or a preprocessed array `(H, W, C)`. None is gray, as in the
            paper, or zeros if the model's preprocessing is unknown.
        variant: "mean" over the windows, as in Captum, or "sum", as in PAIR's saliency.
        memory: limit for the values of one pass, in MB.

    Returns:
        Signed maps of shape `(N, H, W)`, in units of the score.

    Raises:
        MethodError: there is no such variant or baseline, or a size is out of range.

    References:
        Zeiler, Fergus 2014, https://arxiv.org/abs/1311.2901

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import occlusion
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> occlusion(backend, images, 0).maps.shape
        (1, 9, 9)
    """
    if variant not in ("mean", "sum"):
        raise MethodError(f"`variant` must be 'mean' or 'sum', got {variant!r}")
    xp, (outputs, wanted) = backend.xp, named(backend, images, target)
    filling = filling_of(backend, images, baseline)
    windows = _windows(images.shape[1:3], window, stride)
    rows, columns = (native(backend, part, images) for part in windows)
    pairs = tuple(native(backend, part, images) for part in _paired(*windows))
    most = variants_within(backend, images, memory, gradient=False)

    def fn(row: Array, column: Array) -> Array:
        hidden = row[:, None, :, None] * column[:, None, None, :]
        return scores_behind(backend, images, filling, wanted, 1 - hidden)

    drops = wanted.scores(xp, outputs) - map_chunks(backend, fn, pairs, most)
    grid = xp.reshape(drops, (rows.shape[0], columns.shape[0], *drops.shape[1:]))
    grid = xp.moveaxis(grid, (0, 1), (-2, -1))
    maps = filtered_maps(xp, grid, xp.matrix_transpose(rows), xp.matrix_transpose(columns))
    if variant == "mean":
        maps = divided(xp, maps, xp.sum(rows, axis=0)[:, None] * xp.sum(columns, axis=0))
    return Maps(maps, outputs)


def _windows(size: tuple[int, ...], window: Extent, stride: Extent) -> list[Floats]:
    """Return the windows along each axis as ones in `(count, size)`."""
    extents = _pair("window", window, [max(1, n // 7) for n in size])
    steps = _pair("stride", stride, [max(1, n // 2) for n in extents])
    found = []
    for n, extent, step in zip(size, extents, steps, strict=True):
        if extent > n or step > extent:
            raise MethodError(
                f"`window` must fit the image and `stride` the window, got {extent} and {step} "
                f"for {n} pixels"
            )
        start = np.arange(-(-(n - extent) // step) + 1)[:, None] * step
        inside = (np.arange(n) >= start) & (np.arange(n) < start + extent)
        found.append(inside.astype(np.float32))
    return found


def _paired(rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """Pair every row with every column; all masks at once would need too much memory."""
    return np.repeat(rows, len(columns), axis=0), np.tile(columns, (len(rows), 1))


def _pair(option: str, value: Extent, default: list[int]) -> list[int]:
    """Return height and width."""
    if value is None:
        return default
    given = list(value) if isinstance(value, tuple | list) else [value] * 2
    for one in given:
        check_count(option, one)
    if len(given) != 2:
        raise MethodError(f"`{option}` must be one size or a height and a width, got {value!r}")
    return given
