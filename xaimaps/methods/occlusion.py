"""Occlusion: the drop of the score when a sliding window hides a part of the image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._baselines import Baseline
from xaimaps.methods._batching import map_chunks, variants_within
from xaimaps.methods._maps import Maps, named, native
from xaimaps.methods._masking import default_filling, every_pair, filling_of, outer, scores_behind
from xaimaps.methods._noise import Floats
from xaimaps.methods._options import check_count
from xaimaps.methods._registry import method
from xaimaps.methods._resize import filtered_maps

Extent = int | tuple[int, ...] | None


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
    memory: float | None = None,
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
        window: the size on each axis, or one number for all; None is a seventh of the image's.
        stride: the step from one window to the next; None is half of the window.
        baseline: the pixels in the window: "black", "white", "gray", "mean" (the image's mean
            colour), "blur", "zeros" or a preprocessed array `(H, W, C)`. None is gray, as in the
            paper, or zeros if the model's preprocessing is unknown.
        variant: "mean" over the windows, as in Captum, or "sum", as in PAIR's saliency.
        memory: limit for the values of one pass, in MB; None follows the device.

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
    windows = _windows(images.shape[1:-1], window, stride)
    sides = [native(backend, part, images) for part in windows]
    combined = tuple(native(backend, part, images) for part in every_pair(windows))
    most = variants_within(backend, images, memory, gradient=False)

    def fn(*parts: Array) -> Array:
        return scores_behind(backend, images, filling, wanted, 1 - outer(parts)[:, None, ...])

    drops = wanted.scores(xp, outputs) - map_chunks(backend, fn, combined, most)
    grid = xp.reshape(drops, (*(part.shape[0] for part in sides), *drops.shape[1:]))
    axes = tuple(range(len(sides)))
    grid = xp.moveaxis(grid, axes, tuple(axis - len(sides) for axis in axes))
    maps = filtered_maps(xp, grid, *map(xp.matrix_transpose, sides))
    if variant == "mean":
        cover = outer([xp.sum(part, axis=0)[None, :] for part in sides])
        maps = divided(xp, maps, cover[0, ...])
    return Maps(maps, outputs)


def _windows(size: tuple[int, ...], window: Extent, stride: Extent) -> list[Floats]:
    """Return the windows along each axis as ones in `(count, size)`."""
    extents = _sizes("window", window, [max(1, n // 7) for n in size])
    steps = _sizes("stride", stride, [max(1, n // 2) for n in extents])
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


def _sizes(option: str, value: Extent, default: list[int]) -> list[int]:
    """Return the size on each axis."""
    if value is None:
        return default
    given = list(value) if isinstance(value, tuple | list) else [value] * len(default)
    for one in given:
        check_count(option, one)
    if len(given) != len(default):
        raise MethodError(
            f"`{option}` must be one size or one for each of {len(default)} axes, got {value!r}"
        )
    return given
