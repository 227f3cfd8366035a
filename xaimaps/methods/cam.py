"""CAM: the first class activation map."""

from __future__ import annotations

from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.errors import LayerError
from xaimaps.methods._class_map import class_map, class_weights
from xaimaps.methods._maps import Maps
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations", "classifier"},
    paper="Zhou et al. 2016, arXiv:1512.04150",
    cost="1 F",
    only_classes=True,
)
def cam(backend: Backend, images: Array, target: Any = None, *, layer: str | None = None) -> Maps:
    r"""Activations weighted by the dense layer's weights, after global average pooling.

    For global average pooling of activations $A$ and dense weights $w$:

    $$M^c_{ij} = \sum_k w_{kc} A_{ijk}$$

    The mean of a map is the class's logit minus its bias.

    Args:
        backend: the model, which must end in global average pooling and one dense layer.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the classes; a function of the outputs is refused, as it has no weights.
        layer: None, or the name of the pooled layer, the only one for which CAM is defined.

    Returns:
        Signed maps of shape `(N, h, w)`, in units of the logit.

    Raises:
        LayerError: the model has no such head, or `layer` is not the pooled layer.
        TargetError: the target is not a class.

    References:
        Zhou et al. 2016, https://arxiv.org/abs/1512.04150

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import cam
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> cam(backend, images, 0).maps.shape
        (1, 5, 5)
    """
    head = backend.classifier()
    if layer is not None and backend.find_layer(layer).name != head.layer:
        raise LayerError(
            f"`layer` must be the pooled layer {head.layer!r} for CAM, got {layer!r}; "
            "use grad_cam for another layer"
        )
    outputs, kept = backend.forward_with_activations(images, (head.layer,))
    weights = class_weights(backend, head.weights, outputs, target)
    return Maps(class_map(backend.xp, weights, kept[head.layer]), outputs)
