"""Shapley-CAM: Grad-CAM with the curvature of the score in its weights."""

from __future__ import annotations

from typing import Any

from xaimaps._arithmetic import log_softmax
from xaimaps.backend import Array, Backend, Cut
from xaimaps.methods._class_map import class_map
from xaimaps.methods._derived_target import DerivedTarget
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, spatial_axes
from xaimaps.methods._registry import method
from xaimaps.targets import Target, as_target


@method(
    family="cam",
    needs={"forward", "activations", "grad", "split"},
    paper="Cai 2025, arXiv:2501.06261",
    cost="1 F + 3 b",
)
@over_layers
def shapley_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    residual: bool = True,
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Activations weighted by the gradient minus half the curvature along them.

    With the gradient $g$ and the Hessian $H$ of the score by the activations $A$ of the layer:

    $$w_k = \frac{1}{Z} \sum_{ij} \Big(g - \frac{1}{2} H A\Big)_{ijk}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    This is the Shapley value of each channel for a score of second order. The curvature of a logit
    is zero behind linear layers and ReLUs, where the map is Grad-CAM's. The paper therefore
    explains $y_c + \log \mathrm{softmax}(y)_c$.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained, decided on the clean images; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        residual: explain the score of a class plus that of the outputs' log softmax, as the paper
            does; False explains the score alone, as for targets that are no class.
        relu: keep only the positive part, as the paper does.
        eigen_smooth: the first principal component over the channels, in place of their sum.
        fuse: how several layers become one map; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Cai 2025, https://arxiv.org/abs/2501.06261

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import shapley_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> shapley_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    xp, name = backend.xp, backend.find_map_layer(layer).name
    cut = backend.cut(images, name)
    outputs = cut.forward(cut.value)
    goal = as_target(target, images.shape[0], backend.info.labels).frozen(xp, outputs)
    is_class = goal.indices_in(xp, outputs) is not None
    score = Residual(goal) if residual and is_class else goal
    change = cut.pull(cut.value, score).gradients - 0.5 * _curvature(cut, score)
    weights = xp.mean(change, axis=spatial_axes(cut.value, batch_axes=1))
    maps = class_map(xp, weights, cut.value, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, outputs)


def _curvature(cut: Cut, target: Target) -> Array:
    """The Hessian of the scores by the activations, times the activations."""
    axes = tuple(range(1 - len(cut.value.shape), 0))

    def slope(activations: Array) -> tuple[Array, Array]:
        found = cut.pull(activations, target)
        return cut.backend.xp.sum(found.gradients * cut.value, axis=axes), found.outputs

    return cut.backend.differentiate(slope, cut.value).gradients


class Residual(DerivedTarget):
    """A target's score of the outputs, plus its score of their log softmax (the paper's ReST)."""

    def scores(self, xp: Any, outputs: Array) -> Array:
        return self.target.scores(xp, outputs) + self.target.scores(xp, log_softmax(xp, outputs))
