"""Recipro-CAM: the score with all but one spatial position of a layer set to zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from xaimaps.backend import Array, Backend
from xaimaps.methods._batching import (
    flatten_batch,
    map_chunks,
    tile_target,
    unflatten_batch,
    variants_behind,
)
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, native
from xaimaps.methods._masking import every_pair, outer, scores_of
from xaimaps.methods._noise import Floats
from xaimaps.methods._registry import method
from xaimaps.targets import as_target


@method(
    family="cam",
    needs={"forward", "activations", "split"},
    paper="Byun, Lee 2022, arXiv:2209.14074",
    cost="1 F + 1 f for each spatial position; f is the part behind the layer",
    is_relative=True,
)
@over_layers
def recipro_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    gaussian: bool = True,
    probability: bool = True,
    memory: float | None = None,
) -> Maps:
    r"""The score when all of a layer except one spatial position is set to zero.

    With the mask $m_{ij}$, which is 1 at position $(i, j)$ and 0 elsewhere, or a 3 x 3 Gaussian
    around it, and $y(A)$ the score for activations $A$ of the layer:

    $$M_{ij} = y(A \odot m_{ij})$$

    The authors' code copies the activations at $(i, j)$ to the eight neighbours, weighted by the
    Gaussian; here, as in the paper, the neighbours keep their own activations.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        gaussian: mask with a 3 x 3 Gaussian; False keeps one position only.
        probability: y is the probability of a class, as in the paper, instead of its score.
        memory: limit for the values of one pass from the layer on, in MB; None follows the device.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the score; only differences between positions
        have a meaning.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `memory` is not a positive number.

    References:
        Byun, Lee 2022, https://arxiv.org/abs/2209.14074

    Example:
        >>> import numpy as np, xaimaps
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> model = ReferenceBackend(pooled_network())
        >>> xaimaps.attribute(model, np.ones((1, 9, 9, 3)), "recipro_cam", target=0).maps.shape
        (1, 5, 5)
    """
    xp, name = backend.xp, backend.find_map_layer(layer).name
    cut = backend.cut(images, name)
    activations, rest = cut.value, cut.forward
    outputs = rest(activations)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    size = tuple(activations.shape[1:-1])
    combined = every_pair([_axis_masks(side, gaussian) for side in size])

    def scores(*parts: Array) -> Array:
        count = parts[0].shape[0]
        found = flatten_batch(xp, rest(activations * outer(parts)[:, None, ..., None]))
        found = scores_of(backend, tile_target(backend, goal, count), found, probability)
        return unflatten_batch(xp, found, count, trailing=0)

    masks = tuple(native(backend, part, activations) for part in combined)
    most = variants_behind(backend, name, images, memory)
    maps = xp.moveaxis(map_chunks(backend, scores, masks, most), 0, -1)
    return Maps(xp.reshape(maps, (*maps.shape[:-1], *size)), outputs)


def _axis_masks(size: int, gaussian: bool) -> Floats:
    """Return the mask of each position along one axis, `(size, size)`."""
    one = np.eye(size, dtype=np.float32)
    if not gaussian:
        return one
    return np.asarray(0.5 * one + 0.25 * (np.eye(size, k=1) + np.eye(size, k=-1)), np.float32)
