"""Weighted sums over a layer's channels, the last step of every class activation map."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.errors import TargetError
from xaimaps.methods._maps import rectified
from xaimaps.methods._pca import first_component
from xaimaps.targets import as_target, class_scores, one_hot


def class_map(
    xp: Any,
    weights: Array,
    activations: Array,
    *,
    relu: bool = False,
    eigen_smooth: bool = False,
) -> Array:
    """Return the weighted sum over the channels.

    Args:
        xp: the namespace.
        weights: one for each channel `(..., N, C)`.
        activations: `(N, *spatial, C)`.
        relu: keep the positive part only.
        eigen_smooth: take the first principal component of the centred, weighted activations, with
            the sign of their sum, as pytorch-grad-cam does.

    Returns:
        `(..., N, *spatial)`.
    """
    rank = len(activations.shape) - 2
    spread = weights[(..., *(None,) * rank, slice(None))]
    return fold_channels(xp, spread * activations, rank, relu=relu, eigen_smooth=eigen_smooth)


def fold_channels(xp: Any, weighted: Array, rank: int, *, relu: bool, eigen_smooth: bool) -> Array:
    """Fold the channels of weighted activations `(..., *spatial, C)`; see `class_map`."""
    if eigen_smooth:
        maps = first_component(xp, weighted, rank, centre=True)
    else:
        maps = xp.sum(weighted, axis=-1)
    return rectified(xp, maps, relu)


def class_weights(backend: Backend, weights: Array, outputs: Array, target: Any) -> Array:
    """Select the dense weights `(..., N, C)` of the target's classes, from `(C, classes)`.

    Raises:
        TargetError: the target is not a class.
    """
    wanted = as_target(target, outputs.shape[0], backend.info.labels)
    indices = wanted.indices_in(backend.xp, outputs)
    if indices is None:
        raise TargetError("`target` must be a class for CAM, got a function; use grad_cam")
    xp = backend.xp
    columns = class_scores(xp, weights, is_binary=wanted.is_binary)
    chosen = xp.astype(one_hot(xp, indices, columns), weights.dtype)
    return xp.matmul(chosen, xp.matrix_transpose(columns))
