"""Eigen-CAM and Eigen-Grad-CAM: class activation maps from principal components."""

from __future__ import annotations

from typing import Any, Literal

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, feature_maps, gradients, rectified
from xaimaps.methods._pca import first_component
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Muhammad, Yeasin 2020, arXiv:2008.00299",
    cost="1 F",
    uses_target=False,
)
@over_layers
def eigen_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    variant: Literal["paper", "pytorch-grad-cam"] = "paper",
    relu: bool = True,
) -> Maps:
    r"""The first principal component of a layer's activations, the same for every target.

    With spatial positions as rows and the channels as columns of $A = U \Sigma V^T$:

    $$M = \mathrm{ReLU}(A V_1)$$

    The sign of $V_1$ is arbitrary; here it is that of the correlation with the mean of the
    activations. The map does not depend on the target.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        variant: "paper"; "pytorch-grad-cam" subtracts each channel's spatial mean first.
        relu: keep the positive part only.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: there is no such variant.

    References:
        Muhammad, Yeasin 2020, https://arxiv.org/abs/2008.00299

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import eigen_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> eigen_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    if variant not in ("paper", "pytorch-grad-cam"):
        raise MethodError(f"`variant` must be 'paper' or 'pytorch-grad-cam', got {variant!r}")
    values, outputs = feature_maps(backend, images, layer)
    maps = first_component(backend.xp, values, len(values.shape) - 2, centre=variant != "paper")
    return Maps(rectified(backend.xp, maps, relu), outputs)


@method(
    family="cam",
    needs={"forward", "activations", "grad"},
    paper="Gildenblat 2021, pytorch-grad-cam",
    cost="1 F + 1 b",
)
@over_layers
def eigen_grad_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
) -> Maps:
    r"""The first principal component of activations times gradients.

    With spatial positions as rows and the channels as columns of
    $A \odot \partial y / \partial A = U \Sigma V^T$, each column minus its mean:

    $$M = \mathrm{ReLU}(U_1 \Sigma_1)$$

    The method and its formula are pytorch-grad-cam's. The sign is that of the correlation with
    HiResCAM; in pytorch-grad-cam it is arbitrary.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        relu: keep the positive part only.
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the score.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Gildenblat 2021, https://github.com/jacobgil/pytorch-grad-cam; after Muhammad, Yeasin
        2020, https://arxiv.org/abs/2008.00299

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import eigen_grad_cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> eigen_grad_cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    weighted, rank = found.gradients * found.activations, len(found.activations.shape) - 2
    maps = first_component(xp, weighted, rank, centre=True)
    return Maps(rectified(xp, maps, relu), found.outputs)
