"""Wrappers for any method: averaging over the mirrored image, and a low-pass filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xaimaps.backend import Array, Backend
from xaimaps.errors import MethodError, TargetError
from xaimaps.methods._filters import low_passed
from xaimaps.methods._maps import Maps
from xaimaps.targets import Target


def augmented(
    fn: Callable[..., Maps], *, augment: str | None = None, low_pass: float | None = None
) -> Callable[..., Maps]:
    """Wrap a method so that its maps are averaged with those of the mirrored image, or filtered.

    Args:
        fn: takes `(backend, images, target, **options)`.
        augment: "flip" takes the mean with the map of the mirrored image, mirrored back; both
            maps have the target of the image itself.
        low_pass: the highest frequency to keep, in cycles per map; see `low_passed`.

    Raises:
        MethodError: `augment` is something else.
    """
    if augment not in (None, "flip"):
        raise MethodError(f"`augment` must be 'flip' or None, got {augment!r}")

    def explain(backend: Backend, images: Array, target: Target, **options: Any) -> Maps:
        if augment == "flip" and target.has_place:
            raise TargetError(
                "`augment` must be None for a region or a box, got 'flip', which would move it"
            )
        found = fn(backend, images, target, **options)
        lead = 2 if target.is_several else 1
        if augment == "flip":
            frozen = target.frozen(backend.xp, found.outputs)
            found = found._replace(
                maps=_with_mirrored(fn, backend, images, frozen, found.maps, lead, options)
            )
        if low_pass is None:
            return found
        rank = len(images.shape) - 2
        return found._replace(maps=_smooth(backend, found.maps, lead, rank, low_pass))

    return explain


def _with_mirrored(
    fn: Callable[..., Maps],
    backend: Backend,
    images: Array,
    target: Target,
    maps: Array,
    lead: int,
    options: dict[str, Any],
) -> Array:
    if "labels" in options:
        options = {**options, "labels": backend.xp.flip(options["labels"], axis=-1)}
    mirrored = fn(backend, backend.xp.flip(images, axis=-2), target, **options).maps
    return (maps + backend.xp.flip(mirrored, axis=lead + len(images.shape) - 3)) / 2


def _smooth(backend: Backend, maps: Array, lead: int, rank: int, low_pass: float) -> Array:
    """Filter maps `(..., *spatial)`, or `(..., *spatial, C)` with channels."""
    if len(maps.shape) == lead + rank:
        return low_passed(backend, maps, low_pass, rank)
    channels_first = backend.xp.moveaxis(maps, -1, lead)
    return backend.xp.moveaxis(low_passed(backend, channels_first, low_pass, rank), lead, -1)
