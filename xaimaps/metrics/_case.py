"""What a metric judges, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xaimaps.backend import Backend, Replica
from xaimaps.targets import Target

Array = np.ndarray[Any, Any]


class Measured(NamedTuple):
    """A metric's value for one image.

    Attributes:
        value: NaN if it is not defined, as the correlation with a constant map.
        curve: `(points, 2)`, for metrics with a curve: the fraction of the image, or of the
            layers, and the score.
    """

    value: float
    curve: Array | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One image with the map to judge, in numpy.

    Attributes:
        backend: the model.
        image: `(*spatial, C)`, preprocessed for the model.
        map: `(*spatial)`, of the image's size.
        target: the explained score, resolved on this image.
        explain: returns the method's maps `(V, *spatial)` of a model and images
            `(V, *spatial, C)` for a target of V images; None for maps that were made elsewhere.
        region: `(*spatial)`, True at the positions of the object; None if they are not known.
        replica: the model with other weights, for metrics that need it.
    """

    backend: Backend
    image: Array
    map: Array
    target: Target
    explain: Callable[[Backend, Array, Target], Array] | None = None
    region: Array | None = None
    replica: Replica | None = None

    def explained(self, images: Array, target: Target | None = None) -> Array:
        """Explain V other images by the same method, for this target or one of V images."""
        return self._explained(self.backend, images, target or tiled(self.target, len(images)))

    def explained_randomised(self, images: Array) -> Array:
        """Explain V images by the same method and target, and the model with other weights."""
        assert self.replica is not None, "a metric that needs it gets one"
        return self._explained(self.replica.backend, images, tiled(self.target, len(images)))

    def _explained(self, backend: Backend, images: Array, target: Target) -> Array:
        assert self.explain is not None, "a metric that needs it is refused before"
        return self.explain(backend, images, target)


def tiled(target: Target, count: int) -> Target:
    """Repeat the target of one image for `count` images."""
    return target.with_arrays(tuple(np.repeat(one, count, axis=-1) for one in target.arrays))


def unit_range(values: Array) -> Array:
    """Scale values to 0 to 1 by their least and largest; a constant becomes 0."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
