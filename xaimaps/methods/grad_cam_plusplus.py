"""Grad-CAM++, and the formulas that other libraries compute under this name."""

from __future__ import annotations

from typing import Any, Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.methods._class_map import class_map
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, gradients, spatial_axes
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method

PlusPlus = Literal["paper", "pytorch-grad-cam", "torch-cam", "xplique", "tf-keras-vis", "monai"]

PLUS_PLUS = ("paper", "pytorch-grad-cam", "torch-cam", "xplique", "tf-keras-vis", "monai")


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Chattopadhay et al. 2018, arXiv:1710.11063",
    cost="1 F + 1 b",
)
@over_layers
def grad_cam_plusplus(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    variant: PlusPlus = "paper",
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Grad-CAM with the gradient at each spatial position weighted separately.

    With $g = \partial y / \partial A$, for the score $e^y$:

    $$\alpha_{ijk} = \frac{g_{ijk}^2}{2 g_{ijk}^2 + \sum_{ab} A_{abk}\, g_{ijk}^3}, \quad
    w_k = \sum_{ij} \alpha_{ijk}\, \mathrm{ReLU}(g_{ijk}), \quad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k w_k A_{ijk}\Big)$$

    The factor $e^y$ of every weight is left out: it can overflow, and only scales the whole map.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        variant: "paper", or the formula of the library of that name. "pytorch-grad-cam" adds 1e-6
            to the denominator, which is as large as typical squared gradients;
            "torch-cam" has no alpha, its weights are the sums of $g^2\,\mathrm{ReLU}(g)$;
            "xplique" takes means instead of the paper's sums; "tf-keras-vis" normalises each
            channel's alphas to sum to 1; "monai" has $\sum_{ab} A_{abk} g_{abk}^3$ in the
            denominator.
        relu: keep only positive values, as the paper does.
        eigen_smooth: take the first principal component over the channels instead of the sum.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant.

    References:
        Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import grad_cam_plusplus
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> grad_cam_plusplus(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    check_choice("variant", variant, PLUS_PLUS)
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    weights = plusplus_weights(xp, found.gradients, found.activations, variant)
    maps = class_map(xp, weights, found.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)


def plusplus_weights(xp: Any, g: Array, activations: Array, variant: PlusPlus = "paper") -> Array:
    """Return the weights `(..., N, C)` of `grad_cam_plusplus`."""
    axes = spatial_axes(activations, batch_axes=1)
    positive, squares = xp.maximum(g, xp.zeros_like(g)), g * g
    if variant == "torch-cam":
        return xp.sum(squares * positive, axis=axes)
    if variant == "paper":  # both sides over g^2, so that small gradients do not underflow
        total = xp.sum(activations, axis=axes, keepdims=True)
        return xp.sum(divided(xp, positive, 2 + total * positive), axis=axes)
    alphas = _alphas(xp, g, squares, activations, variant)
    fold = xp.mean if variant == "xplique" else xp.sum
    return fold(alphas * positive, axis=axes)


def _alphas(xp: Any, g: Array, squares: Array, activations: Array, variant: PlusPlus) -> Array:
    """Return the alphas of the other libraries' formulas."""
    axes = spatial_axes(activations, batch_axes=1)
    fold = xp.mean if variant == "xplique" else xp.sum
    if variant == "monai":
        cubes = xp.sum(activations * squares * g, axis=axes, keepdims=True)
    else:
        cubes = fold(activations, axis=axes, keepdims=True) * squares * g
    small = {"pytorch-grad-cam": 1e-6, "monai": 1e-7}.get(variant, 0)
    alphas = divided(xp, squares, 2 * squares + cubes + small)
    if variant == "tf-keras-vis":
        return divided(xp, alphas, xp.sum(alphas, axis=axes, keepdims=True))
    return alphas
