"""XRAI: the regions of an image in the order of their attribution."""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps._arithmetic import divided
from xaimaps.backend import Array, Backend
from xaimaps.methods._base import base_of
from xaimaps.methods._baselines import baselines, knows_colours
from xaimaps.methods._maps import Maps
from xaimaps.methods._options import Pairs, check_choice
from xaimaps.methods._regions import SIDE, regions_of
from xaimaps.methods._registry import method
from xaimaps.methods._segments import Segments
from xaimaps.methods.integrated_gradients import integrated_gradients
from xaimaps.targets import one_hot

_LEAST_AREA = 50 / SIDE**2
"""The least part of the image that a region must add."""

_LEAST_SIDE = 64
"""The least side of images whose superpixels are more than interpolated pixels."""


def _has_superpixels(backend: Backend) -> bool:
    *size, _ = backend.input_shape
    is_large = all(side is None or side >= _LEAST_SIDE for side in size)
    return len(size) == 2 and is_large and importlib.util.find_spec("skimage") is not None


def _suits(backend: Backend) -> bool:
    """Whether the method can run with its default options."""
    return "grad" in backend.capabilities and _has_superpixels(backend)


def draw_regions(
    shape: tuple[int, ...], *, segments: Segments = "felzenszwalb", images: Any = None, **_: Any
) -> dict[str, Any]:
    """Divide the images into regions; see `regions_of`."""
    return regions_of(shape[:-1], segments, images)


@method(
    family="gradient",
    needs={"forward"},
    paper="Kapishnikov et al. 2019, arXiv:1906.02825",
    cost="104 F + 100 B, or those of base",
    draws=draw_regions,
    suits=_suits,
    is_relative=True,
    is_sensitive=True,
)
def xrai(
    backend: Backend,
    images: Array,
    target: Any = None,
    *,
    base: str = "integrated_gradients",
    base_options: Pairs = (),
    segments: Segments = "felzenszwalb",
    variant: Literal["full", "fast"] = "full",
    labels: Array | None = None,
    pixels: Array | None = None,
    members: Array | None = None,
) -> Maps:
    r"""The mean attribution of regions, the region with the highest mean first.

    With the map $A$ of another method and overlapping regions $s$, of which $C$ are covered:

    $$M_{ij} = \frac{1}{|s^* \setminus C|} \sum_{kl \in s^* \setminus C} A_{kl}, \qquad
    s^* = \mathrm{argmax}_s \frac{1}{|s \setminus C|} \sum_{kl \in s \setminus C} A_{kl}$$

    for the pixels that $s^*$ adds; then $C$ becomes $C \cup s^*$. Regions that would add less than
    a thousandth of the image (50 pixels of 224 x 224) are left out, and the pixels that remain have
    their own mean. The total of A is preserved. Of the largest channel only the order of regions
    has a meaning, not the zero.

    Args:
        backend: the model.
        images: `(N, H, W, C)`, preprocessed for the model.
        target: the score to explain; see `xaimaps.targets.as_target`.
        base: the method that makes A, such as "occlusion" for a backend without gradients; a map of
            a layer is enlarged. Without options, "integrated_gradients" is that of the authors: the
            mean over a black and a white baseline (zeros if the model's preprocessing is unknown),
            and the largest channel.
        base_options: options of `base`, as pairs.
        segments: "felzenszwalb", superpixels at six scales that are enlarged by five pixels, as the
            authors'; or those of `lime`, which do not overlap.
        variant: "full", or "fast", which orders the regions once, by their mean over all pixels.
        labels: of each image, the part of each pixel; None makes it and the next two.
        pixels: of each image, the pixels of each part, in the order of their labels.
        members: of each image, the regions of each part.

    Returns:
        Maps of shape `(N, H, W)`, in units of A.

    Raises:
        BackendError: the backend cannot run the base.
        MethodError: there is no such base, variant or segmentation, or scikit-image is missing.

    References:
        Kapishnikov et al. 2019, https://arxiv.org/abs/1906.02825

    Example:
        >>> import numpy as np
        >>> from xaimaps.methods import xrai
        >>> from xaimaps.testing import ReferenceBackend, pooled_network
        >>> backend, images = ReferenceBackend(pooled_network()), np.ones((1, 9, 9, 3), "f4")
        >>> xrai(backend, images, 0, segments=3).maps.shape
        (1, 9, 9)
    """
    check_choice("variant", variant, ("full", "fast"))
    drawn = {"labels": labels, "pixels": pixels, "members": members}
    if any(one is None for one in drawn.values()):
        drawn = draw_regions(images.shape[1:], segments=segments, images=images)
    regions = _Regions(backend, **{name: _own(backend, one) for name, one in drawn.items()})
    found = _base_maps(backend, images, target, base, base_options)
    return Maps(regions.painted(regions.gains(found.maps, variant == "fast")), found.outputs)


def _own(backend: Backend, array: Any) -> Array:
    return backend.asarray(array) if isinstance(array, np.ndarray) else array


def _base_maps(backend: Backend, images: Array, target: Any, base: str, options: Pairs) -> Maps:
    """Return the maps of the base method, at the size of the images."""
    chosen = base_of(backend, base, options)
    if chosen.row.name == "integrated_gradients" and not options:
        return _authors_maps(backend, images, target)
    return chosen.explain(backend, images, target)


def _authors_maps(backend: Backend, images: Array, target: Any) -> Maps:
    """Integrate gradients from black and from white, and take the largest channel of the mean."""
    colours = ("black", "white") if knows_colours(backend) else ("zeros",)
    starts = [baselines(backend, images[:1, ...], colour)[0, ...] for colour in colours]
    both = backend.xp.concat(starts, axis=0)
    found = integrated_gradients(backend, images, target, baseline=both, reduce=None)
    return Maps(backend.xp.max(found.maps, axis=-1), found.outputs)


class _Regions(NamedTuple):
    """The regions of each image, as parts; see `regions_of`."""

    backend: Backend
    labels: Array
    pixels: Array
    members: Array

    def gains(self, maps: Array, is_fast: bool) -> Array:
        """Return the mean with which each part was added, `(..., N, P)`."""
        xp = self.backend.xp
        totals, sizes = self._sums(maps), self._sums(xp.ones_like(maps))
        least = max(1, round(_LEAST_AREA * math.prod(self.labels.shape[1:])))
        first, _ = self._means(totals, sizes)

        def step(carry: tuple[Array, Array], _: Array) -> tuple[tuple[Array, Array], None]:
            gains, left = carry
            means, counts = self._means(totals * left, sizes * left)
            order = first if is_fast else means
            order = xp.where(counts >= least, order, xp.full_like(order, -xp.inf))
            best = one_hot(xp, xp.argmax(order, axis=-1), order) & (order > -xp.inf)
            chosen = xp.astype(best, left.dtype)
            gain = xp.sum(xp.where(best, means, xp.zeros_like(means)), axis=-1)
            added = left * xp.matmul(self.members, chosen[..., None])[..., 0]
            return (gains + added * gain[..., None], left - added), None

        start = (xp.zeros_like(totals), xp.ones_like(totals))
        (gains, left), _ = self.backend.scan(step, start, self.members[0, 0, :])
        rest = divided(xp, xp.sum(totals * left, axis=-1), xp.sum(sizes * left, axis=-1))
        return gains + left * rest[..., None]

    def painted(self, values: Array) -> Array:
        """Return the value of the part of each pixel, `(..., N, *spatial)`."""
        xp, shape = self.backend.xp, self.labels.shape
        places = xp.reshape(self.labels, (shape[0], -1))
        places = xp.broadcast_to(places, (*values.shape[:-1], places.shape[-1]))
        found = xp.take_along_axis(values, places, axis=-1)
        return xp.reshape(found, (*values.shape[:-1], *shape[1:]))

    def _sums(self, maps: Array) -> Array:
        """Return the sums of maps `(..., N, *spatial)` over the parts."""
        xp, (_, count, most) = self.backend.xp, self.pixels.shape
        lead = maps.shape[: 1 - len(self.labels.shape)]
        order = xp.argsort(xp.reshape(self.labels, (self.labels.shape[0], -1)), axis=-1)
        flat = xp.reshape(maps, (*lead, -1))
        flat = xp.take_along_axis(flat, xp.broadcast_to(order, flat.shape), axis=-1)
        flat = xp.concat([flat, xp.zeros_like(flat[..., :1])], axis=-1)
        places = xp.reshape(self.pixels, (self.pixels.shape[0], -1))
        places = xp.broadcast_to(places, (*lead, count * most))
        found = xp.take_along_axis(flat, places, axis=-1)
        return xp.sum(xp.reshape(found, (*lead, count, most)), axis=-1)

    def _means(self, totals: Array, sizes: Array) -> tuple[Array, Array]:
        """Return the mean over each region, and its number of pixels, `(..., N, S)`."""
        xp = self.backend.xp
        both = xp.stack([totals, sizes], axis=-2)
        found = xp.matmul(both, self.members)
        sums, counts = found[..., 0, :], found[..., 1, :]
        return divided(xp, sums, counts), counts
