"""The result of a method, and steps that methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps.backend import INPUT, Array, Backend, Gradients
from xaimaps.errors import MethodError
from xaimaps.targets import Target, as_target

Reduce = Literal["max", "sum", "mean"] | None


class Maps(NamedTuple):
    """A method's result in native arrays.

    Attributes:
        maps: `(N, *spatial)`; `(K, N, *spatial)` for K targets; with a channel axis at the end if
            the option `reduce` is None.
        outputs: the model's outputs for the same images, `(N, ...)`.
        details: other results by name, `(N, ...)` or `(K, N, ...)`.
    """

    maps: Array
    outputs: Array
    details: Mapping[str, Array] = {}


def gradients(backend: Backend, images: Array, target: Any, wrt: str = INPUT) -> Gradients:
    """Differentiate the score of the user's target."""
    return backend.grad(images, as_target(target, images.shape[0], backend.info.labels), wrt=wrt)


def feature_maps(backend: Backend, images: Array, layer: str | None) -> tuple[Array, Array]:
    """Return the activations `(N, *spatial, C)` of the user's layer, and the outputs.

    Raises:
        LayerError: there is no such layer, or it has no spatial extent.
    """
    name = backend.find_map_layer(layer).name
    outputs, kept = backend.forward_with_activations(images, (name,))
    return kept[name], outputs


def rectified(xp: Any, maps: Array, relu: bool) -> Array:
    """Return the positive part if `relu`, otherwise the maps as they are."""
    return xp.maximum(maps, xp.zeros_like(maps)) if relu else maps


def named(backend: Backend, images: Array, target: Any) -> tuple[Array, Target]:
    """Return the outputs of the clean images, and the target resolved on them."""
    outputs = backend.forward(images)
    wanted = as_target(target, images.shape[0], backend.info.labels)
    return outputs, wanted.frozen(backend.xp, outputs)


def native(backend: Backend, array: Any, like: Array) -> Array:
    """Convert a numpy or native array to a native one of the type of `like`."""
    own = backend.asarray(array) if isinstance(array, np.ndarray) else array
    return backend.xp.astype(own, like.dtype)


def reduce_channels(xp: Any, values: Array, reduce: Reduce) -> Array:
    """Reduce the last axis; None keeps it.

    Raises:
        MethodError: `reduce` is something else.
    """
    if reduce is None:
        return values
    if reduce not in ("max", "sum", "mean"):
        raise MethodError(f"`reduce` must be 'max', 'sum', 'mean' or None, got {reduce!r}")
    return getattr(xp, reduce)(values, axis=-1)


def spatial_axes(values: Array, batch_axes: int) -> tuple[int, ...]:
    """Return the axes between the batch and the channels, counted from the end."""
    return tuple(range(batch_axes - len(values.shape), -1))


def complete(
    xp: Any, values: Array, target: Target, outputs: Array, start_scores: Array, reduce: Reduce
) -> Maps:
    """Make maps of values that should sum to a difference of scores, and measure the error."""
    difference = target.scores(xp, outputs) - start_scores
    axes = tuple(range(len(difference.shape), len(values.shape)))
    delta = xp.sum(values, axis=axes) - difference
    return Maps(reduce_channels(xp, values, reduce), outputs, {"completeness_delta": delta})
