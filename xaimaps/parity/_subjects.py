"""`Subject`: a backend with its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xaimaps._arrays import as_batch
from xaimaps._prepare import Batch, prepare
from xaimaps.backend import Array, Backend
from xaimaps.errors import ArrayInputError, LayerError
from xaimaps.graph import fixed_size
from xaimaps.targets import Target


@dataclass(frozen=True)
class Subject:
    """One backend with its images.

    Attributes:
        name: the name in the report.
        backend: the model.
        batch: the preprocessed images, and the pictures that they were made from.
    """

    name: str
    backend: Backend
    batch: Batch

    @property
    def images(self) -> np.ndarray[Any, Any]:
        """The images `(N, H, W, C)`."""
        return self.batch.images

    def run(self, key: str, fn: Callable[[Backend, Array], Any], images: Array) -> Any:
        """Run a compiled program on images."""
        native = self.backend.asarray(images)
        return self.backend.compiled(("parity", key), fn, native)(native)

    def disturbed(self, size: float) -> Subject:
        """Return the same with relative noise of standard deviation `size` on the images."""
        noise = np.random.default_rng(0).standard_normal(self.images.shape)
        images = (self.images * (1 + size * noise)).astype(self.images.dtype)
        return replace(self, batch=replace(self.batch, images=images, levels=None))

    def layer_called(self, *names: str) -> str | None:
        """Return this backend's name of the first of these layers that it has."""
        for name in names:
            try:
                return self.backend.find_layer(name).name
            except LayerError:
                continue
        return None

    def values(self, layers: tuple[str, ...], part: slice) -> tuple[Array, dict[str, Array]]:
        """Return the outputs and the layers for a part of the images, in numpy."""

        def program(backend: Backend, images: Array) -> tuple[Array, list[Array]]:
            outputs, kept = backend.forward_with_activations(images, layers)
            return outputs, [kept[name] for name in layers]

        outputs, kept = self.run("layers " + "\n".join(layers), program, self.images[part])
        bring = self.backend.to_numpy
        return bring(outputs), {name: bring(v) for name, v in zip(layers, kept, strict=True)}

    def gradient(self, goal: Target, wrt: str) -> Array:
        """Return the gradient of the target's scores by a layer or the images, in numpy."""
        self.backend.require(frozenset({"grad"}), "a gradient")

        def program(backend: Backend, images: Array, *arrays: Array) -> Array:
            return backend.grad(images, goal.with_arrays(arrays), wrt=wrt).gradients

        arrays = [self.backend.asarray(array) for array in (self.images, *goal.arrays)]
        compiled = self.backend.compiled(("parity gradient", wrt, goal.key), program, *arrays)
        return self.backend.to_numpy(compiled(*arrays))


def as_subjects(
    models: Mapping[str, Backend], images: Any, input_size: tuple[int, int] | None
) -> list[Subject]:
    """Pair each backend with pictures preprocessed for it, or with the same arrays."""
    rank = len(next(iter(models.values())).input_shape)
    if hasattr(images, "__array__") and np.ndim(images) == rank + 1:
        batch = np.asarray(images)
        found = [Subject(n, b, Batch(as_batch(batch, b.input_shape))) for n, b in models.items()]
    else:
        size = input_size or fixed_size(next(iter(models.values())).input_shape)
        found = []
        for name, backend in models.items():
            # The first subject opens the pictures; each subject preprocesses them for its model.
            pictures = found[0].batch.pictures if found else images
            found.append(_prepared(name, backend, pictures, size))
    if not len(found[0].images):
        raise ArrayInputError("a comparison needs at least one image, got none")
    return found


def _prepared(name: str, backend: Backend, pictures: Any, size: tuple[int, ...] | None) -> Subject:
    """Preprocess pictures for a backend, at the reference's size if the backend takes any."""
    own = size if fixed_size(backend.input_shape) is None else None
    return Subject(name, backend, prepare(backend, pictures, own))
