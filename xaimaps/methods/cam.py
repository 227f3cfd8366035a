"""Class activation maps: weighted sums of a layer's activations."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.errors import LayerError, TargetError
from xaimaps.methods.fusion import over_layers
from xaimaps.methods.maps import Maps, gradients, spatial_axes
from xaimaps.methods.principal import first_component
from xaimaps.methods.table import Method
from xaimaps.targets import as_target, one_hot


def cam(backend: Backend, images: Array, target: Any = None, *, layer: str | None = None) -> Maps:
    r"""Where the evidence for a class lies, in a network that pools and then weighs.

    For global average pooling of activations $A$ and dense weights $w$:

    $$M^c_{ij} = \sum_k w_{kc} A_{ijk}$$

    The mean of a map is the class's logit, less its bias.

    Args:
        backend: the model, which must end in global average pooling and one dense layer.
        images: `(N, H, W, C)`, as the model takes them.
        target: the classes; a function of the outputs has no weights, and is refused.
        layer: None, or the name of the pooled layer, the only one that CAM is defined for.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the logit.

    Raises:
        LayerError: the model has no such head, or `layer` is not the one that is pooled.
        TargetError: the target is not a class.

    References:
        Zhou et al. 2016, https://arxiv.org/abs/1512.04150
    """
    head = backend.classifier()
    if layer is not None and backend.find_layer(layer).name != head.layer:
        raise LayerError(
            f"CAM is defined at the pooled layer {head.layer!r} only, got {layer!r}; "
            "use grad_cam for another layer"
        )
    outputs, kept = backend.forward_with_activations(images, (head.layer,))
    weights = class_weights(backend, head.weights, outputs, target)
    return Maps(class_map(backend.xp, weights, kept[head.layer]), outputs)


@over_layers
def grad_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
    eigen_smooth: bool = False,
) -> Maps:
    r"""Where a layer's activations raise the score, weighted by their mean gradient.

    $$\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial y}{\partial A_{ijk}}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k \alpha_k A_{ijk}\Big)$$

    Args:
        backend: the model.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained; see `xaimaps.targets.as_target`.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        relu: keep only what speaks for the target, as the paper does.
        eigen_smooth: the first principal component over the channels, in place of their sum.
        fuse: how several layers become one map; see `xaimaps.methods.fusion.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    weights = xp.mean(found.gradients, axis=spatial_axes(found.activations, batch_axes=1))
    maps = class_map(xp, weights, found.activations, relu=relu, eigen_smooth=eigen_smooth)
    return Maps(maps, found.outputs)


def class_map(
    xp: Any,
    weights: Array,
    activations: Array,
    *,
    relu: bool = False,
    eigen_smooth: bool = False,
) -> Array:
    """The weighted sum over the channels, which all of the family end in.

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
    places = len(activations.shape) - 2
    spread = weights[(..., *(None,) * places, slice(None))]
    return folded(xp, spread * activations, places, relu=relu, eigen_smooth=eigen_smooth)


def folded(xp: Any, weighted: Array, places: int, *, relu: bool, eigen_smooth: bool) -> Array:
    """Fold the channels of weighted activations `(..., *spatial, C)`; see `class_map`."""
    if eigen_smooth:
        maps = first_component(xp, weighted, places, centre=True)
    else:
        maps = xp.sum(weighted, axis=-1)
    return xp.maximum(maps, xp.zeros_like(maps)) if relu else maps


def class_weights(backend: Backend, weights: Array, outputs: Array, target: Any) -> Array:
    """The dense weights `(..., N, C)` of the target's classes, from `(C, classes)`.

    Raises:
        TargetError: the target is not a class.
    """
    wanted = as_target(target, outputs.shape[0], backend.info.labels)
    indices = wanted.indices_in(backend.xp, outputs)
    if indices is None:
        raise TargetError("CAM explains classes only, got a function; use grad_cam for it")
    chosen = backend.xp.astype(one_hot(backend.xp, indices, outputs), weights.dtype)
    return backend.xp.matmul(chosen, backend.xp.matrix_transpose(weights))


ROWS = (
    Method(
        cam,
        family="cam",
        needs=frozenset({"forward", "activations", "classifier"}),
        paper="Zhou et al. 2016, arXiv:1512.04150",
        cost="1 F",
    ),
    Method(
        grad_cam,
        family="cam",
        needs=frozenset({"forward", "activations", "grad"}),
        paper="Selvaraju et al. 2017, arXiv:1610.02391",
        cost="1 F + 1 b",
    ),
)
"""These methods in the table."""
