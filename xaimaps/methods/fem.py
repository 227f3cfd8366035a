"""FEM: feature explanation method, the activations that stand out of their channel."""

from __future__ import annotations

from typing import Any, Literal

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError
from xaimaps.methods._fusion import over_layers
from xaimaps.methods._maps import Maps, feature_maps, spatial_axes
from xaimaps.methods._options import check_choice
from xaimaps.methods._registry import method


@method(
    family="cam",
    needs={"forward", "activations"},
    paper="Fuad et al. 2020, doi:10.1109/IPTA50016.2020.9286629",
    cost="1 F",
    uses_target=False,
)
@over_layers
def fem(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    layer: str | None = None,
    k: float = 2.0,
    variant: Literal["paper", "pytorch-grad-cam"] = "paper",
) -> Maps:
    r"""The positions of a layer whose activations are rare in their channel, for every target.

    With the mean $\mu_c$ and standard deviation $\sigma_c$ of each channel over the positions:

    $$M_{ij} = \sum_c \mu_c B_{ijc}, \qquad B_{ijc} = \big[A_{ijc} > \mu_c + k \sigma_c\big]$$

    pytorch-grad-cam weights by the share of such positions: $M_{ij} = \sum_c \bar B_c A_{ijc}$.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: not used.
        layer: the layer's name, or several; None for the last one with a spatial extent.
        k: how many standard deviations above the mean count as rare.
        variant: "paper", or "pytorch-grad-cam".
        fuse: how to combine the maps of several layers; see `xaimaps.methods.fuse_maps`.

    Returns:
        Maps of shape `(N, h, w)`, in units of the activations.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
        MethodError: `k` is not finite, or there is no such variant.

    References:
        Fuad et al. 2020, https://doi.org/10.1109/IPTA50016.2020.9286629

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import fem
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> fem(backend, images).maps.shape
        (1, 5, 5)
    """
    check_choice("variant", variant, ("paper", "pytorch-grad-cam"))
    if not abs(k) < float("inf"):
        raise MethodError(f"`k` must be a finite number, got {k}")
    xp = backend.xp
    values, outputs = feature_maps(backend, images, layer)
    axes = spatial_axes(values, batch_axes=1)
    mean = xp.mean(values, axis=axes, keepdims=True)
    deviation = xp.sqrt(xp.mean((values - mean) ** 2, axis=axes, keepdims=True))
    rare = xp.astype(values > mean + k * deviation, values.dtype)
    if variant == "paper":
        return Maps(xp.sum(mean * rare, axis=-1), outputs)
    share = xp.mean(rare, axis=axes, keepdims=True)
    return Maps(xp.sum(share * values, axis=-1), outputs)
