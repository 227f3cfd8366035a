"""Fuse the class activation maps of several layers into one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.errors import LayerError, MethodError
from xaimaps.methods._maps import Maps
from xaimaps.methods._resize import resized

Fuse = Literal["mean", "max", "product"]


def over_layers(method: Callable[..., Maps]) -> Callable[..., Maps]:
    """Let a method take several layers, and give it the option `fuse`.

    With `layer=("a", "b")` the method runs for each layer, and `fuse_maps` fuses the maps. One
    compiled program runs all of it, and computes what the layers share once.
    """

    @functools.wraps(method)
    def fused(
        backend: Backend,
        images: Array,
        target: Any = None,
        layer: str | Sequence[str] | None = None,
        fuse: Fuse = "mean",
        **options: Any,
    ) -> Maps:
        if layer is None or isinstance(layer, str):
            return method(backend, images, target, layer=layer, **options)
        if not layer:
            raise LayerError("`layer` must name at least one layer, got none")
        parts = [method(backend, images, target, layer=name, **options) for name in layer]
        maps = fuse_maps(backend, [part.maps for part in parts], fuse, len(images.shape) - 2)
        return Maps(maps, parts[0].outputs)

    signature = inspect.signature(method)
    option = inspect.Parameter("fuse", inspect.Parameter.KEYWORD_ONLY, default="mean")
    parameters = [*signature.parameters.values(), option]
    fused.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return fused


def fuse_maps(backend: Backend, maps: Sequence[Array], fuse: Fuse, rank: int = 2) -> Array:
    r"""Fuse maps of several sizes into one of the largest size.

    $$M = \mathrm{fuse}_l\; U\Big(\frac{\mathrm{ReLU}(M_l)}{\max \mathrm{ReLU}(M_l)}\Big)$$

    with the bilinear resize $U$, half-pixel centres. The product is Refine-CAM. pytorch-grad-cam
    and torch-cam subtract the minimum from each map first, and torch-cam's LayerCAM takes the
    hyperbolic tangent of twice each map; here zero stays zero.

    Args:
        backend: the backend of the maps.
        maps: `(..., N, *spatial)`, one for each layer.
        fuse: "mean", "max" or "product".
        rank: the number of spatial axes.

    Returns:
        `(..., N, *spatial)`, 0 to 1.

    Raises:
        MethodError: `fuse` is something else.

    References:
        Domeniconi et al. 2026, https://arxiv.org/abs/2605.14641 (the product)
    """
    xp = backend.xp
    folds = {"mean": xp.mean, "max": xp.max, "product": xp.prod}
    if fuse not in folds:
        raise MethodError(f"`fuse` must be 'mean', 'max' or 'product', got {fuse!r}")
    size = tuple(max(m.shape[axis] for m in maps) for axis in range(-rank, 0))
    scaled = (resized(backend, _scaled(xp, m, rank), size) for m in maps)
    return folds[fuse](xp.stack(list(scaled)), axis=0)


def _scaled(xp: Any, maps: Array, rank: int) -> Array:
    """Divide the positive part of each map by its maximum."""
    positive = xp.maximum(maps, xp.zeros_like(maps))
    return divided(xp, positive, xp.max(positive, axis=tuple(range(-rank, 0)), keepdims=True))
