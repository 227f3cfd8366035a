"""Class activation maps: weighted sums of a layer's activations."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.errors import LayerError, TargetError
from xaimaps.methods.maps import Maps, gradients, spatial_axes
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
    weights = _class_weights(backend, head.weights, outputs, target)
    return Maps(_weighted_sum(backend.xp, weights, kept[head.layer]), outputs)


def grad_cam(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    relu: bool = True,
) -> Maps:
    r"""Where a layer's activations raise the score, weighted by their mean gradient.

    $$\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial y}{\partial A_{ijk}}, \qquad
    M_{ij} = \mathrm{ReLU}\Big(\sum_k \alpha_k A_{ijk}\Big)$$

    Args:
        backend: the model.
        images: `(N, H, W, C)`, as the model takes them.
        target: what is explained; see `xaimaps.targets.as_target`.
        layer: the layer's name; None for the last one with a spatial extent.
        relu: keep only what speaks for the target, as the paper does.

    Returns:
        Maps of shape `(N, h, w)`, at the layer's own resolution.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.

    References:
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391
    """
    xp = backend.xp
    found = gradients(backend, images, target, wrt=backend.find_map_layer(layer).name)
    axes = spatial_axes(found.activations, batch_axes=1)
    maps = _weighted_sum(xp, xp.mean(found.gradients, axis=axes), found.activations)
    return Maps(xp.maximum(maps, xp.zeros_like(maps)) if relu else maps, found.outputs)


def _weighted_sum(xp: Any, weights: Array, activations: Array) -> Array:
    """Sum `(..., N, *spatial, C)` activations over C with weights `(..., N, C)`."""
    places = len(activations.shape) - 2
    return xp.sum(weights[(..., *(None,) * places, slice(None))] * activations, axis=-1)


def _class_weights(backend: Backend, weights: Array, outputs: Array, target: Any) -> Array:
    """The dense weights `(..., N, C)` of the target's classes, from `(C, classes)`."""
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
