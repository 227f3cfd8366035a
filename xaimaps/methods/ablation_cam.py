"""Ablation-CAM: activations weighted by the drop of the score without their channel."""

from __future__ import annotations

from typing import Any, Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import LayerError, MethodError
from xaimaps.methods._batching import (
    flatten_batch,
    map_chunks,
    tile_target,
    unflatten_batch,
    variants_behind,
)
from xaimaps.methods._class_map import class_map, class_weights
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, spatial_axes
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target


@method(
    family="cam",
    needs={"forward", "activations", "split"},
    paper="Desai, Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360",
    cost="1 F + 1 f for each channel; f is the part behind the layer",
    tolerance=1e-3,  # a channel's weight is a small difference of two large scores
)
@over_layers
def ablation_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    variant: Literal["paper", "pytorch-grad-cam"] = "paper",
    relu: bool = True,
    eigen_smooth: bool = False,
    memory: float | None = None,
) -> Maps:
    r"""Activations weighted by the drop of the score when their channel is set to zero.

    With $y_k$ the score without channel $k$:

    $$w_k = \frac{y - y_k}{|y|}, \qquad M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    The paper divides by $y$, which inverts a map where the score is negative. Where the score is
    zero, so are the weights. Only the part behind the layer runs for each channel. If that part is
    pooling and one dense layer, and the target is a class, the drops have a closed form.

    Args:
        backend: the model; only forward passes are needed.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain, resolved on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        variant: "paper"; "pytorch-grad-cam" divides by the signed score. (Where the smallest
            activation of an image is not 0, that library sets channels to ten million below it
            instead of to zero, which no variant here does.)
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        memory: limit for the values of one pass from the layer on, in MB; None follows the device.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant.

    References:
        Desai, Ramaswamy 2020, https://doi.org/10.1109/WACV45572.2020.9093360

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import ablation_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> ablation_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    if variant not in ("paper", "pytorch-grad-cam"):
        raise MethodError(f"`variant` must be 'paper' or 'pytorch-grad-cam', got {variant!r}")
    xp, name = backend.xp, backend.find_map_layer(layer).name
    cut = backend.cut(images, name)
    activations, rest = cut.value, cut.forward
    outputs = rest(activations)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    scores = goal.scores(xp, outputs)
    drops = _pooled_drops(backend, name, activations, outputs, goal)
    if drops is None:
        most = variants_behind(backend, name, images, memory)
        without = _without_each(backend, activations, rest, goal, most)
        drops = xp.moveaxis(scores - without, 0, -1)
    size = xp.abs(scores) if variant == "paper" else scores
    weights = divided(xp, drops, size[..., None])
    maps = class_map(xp, weights, activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, outputs)


def _pooled_drops(
    backend: Backend, name: str, activations: Array, outputs: Array, target: Target
) -> Array | None:
    """Return the drops `(..., N, C)` in closed form, or None if there is no such form.

    In a head of pooling and one dense layer, a channel adds its mean times its weight to the score.
    """
    try:
        head = backend.classifier() if "classifier" in backend.capabilities else None
    except LayerError:
        return None
    if head is None or head.layer != name or target.indices_in(backend.xp, outputs) is None:
        return None
    means = backend.xp.mean(activations, axis=spatial_axes(activations, batch_axes=1))
    return means * class_weights(backend, head.weights, outputs, target)


def _without_each(
    backend: Backend, activations: Array, rest: Any, target: Target, most: int
) -> Array:
    """Return the scores without each channel, `(C, ..., N)`, computed `most` at a time."""
    xp = backend.xp
    channels = xp.arange(activations.shape[-1])

    def fn(gone: Array) -> Array:
        # A product instead of `where`: compilers fuse it with the pooling that often follows.
        kept = xp.astype(gone[:, None] != channels, activations.dtype)
        shape = (kept.shape[0], *(1,) * (len(activations.shape) - 1), kept.shape[1])
        outputs = flatten_batch(xp, rest(activations * xp.reshape(kept, shape)))
        scores = tile_target(backend, target, kept.shape[0]).scores(xp, outputs)
        return unflatten_batch(xp, scores, kept.shape[0], trailing=0)

    return map_chunks(backend, fn, (channels,), most)
