"""Targets with a mask, a box or an embedding, which may come from a file."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import ImageTargetError, TargetError
from xaimaps.targets._base import Labels, Target, TargetSpec
from xaimaps.targets._classes import class_index
from xaimaps.targets._masks import fitted
from xaimaps.targets._scores import Box, Region, Similarity
from xaimaps.targets._spec import ClassSpec, batch_last, quoted

if TYPE_CHECKING:
    from xaimaps.targets._scene import Scene

Array = np.ndarray[Any, Any]


SAME = 1e-4
"""The distance of two embeddings of length 1 below which they are those of one picture."""

LEAST_LENGTH = 1e-12


class InMemory:
    """An array that did not come from a file; compares by content."""

    def __init__(self, array: Array) -> None:
        self.array = np.array(array)
        self._digest = hashlib.sha256(self.array.tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InMemory) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash(self._digest)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.array.shape))
        return f"<array {shape} {self._digest[:8]}>"


Source = str | InMemory


@dataclass(frozen=True)
class _FromSource(TargetSpec):
    """A target with an array in memory or in a file."""

    source: Source

    @property
    def files(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else ()

    @property
    def unrecorded(self) -> tuple[str, ...]:
        if isinstance(self.source, str):
            return ()
        return (f"the target holds the array {self.source}; save it and name the file",)

    @property
    def _text(self) -> str:
        return quoted(self.source) if isinstance(self.source, str) else str(self.source)

    def _one_of(self, index: int, rank: int) -> TargetSpec:
        """Return the target of one image, if the array has an entry for each image."""
        if isinstance(self.source, str) or self.source.array.ndim == rank:
            return self
        return replace(self, source=InMemory(self.source.array[index]))


@dataclass(frozen=True)
class RegionSpec(_FromSource):
    """The mean score of a class over a mask: `region:mask.png@dog`."""

    of: ClassSpec
    axis: int | None = None

    def __str__(self) -> str:
        return f"region:{self._text}@{self.of}{_axis(self.axis)}"

    def for_image(self, index: int) -> TargetSpec:
        return self._one_of(index, rank=2)

    def settled(self, scene: Scene) -> RegionSpec:
        axis = self.axis or scene.class_axis
        return replace(self, source=InMemory(fitted(self._mask, scene, axis)), axis=axis)

    @property
    def _mask(self) -> Array:
        source = self.source
        return checked_mask(_read_mask(source) if isinstance(source, str) else source.array)

    def resolve(self, batch: int, labels: Labels) -> Region:
        weights = batch_last(self._mask, batch, 2, "mask")
        return Region(weights, class_index(self.of.name, labels), self.axis or -1)


@dataclass(frozen=True)
class BoxSpec(TargetSpec):
    """The mean score of a class over a box: `box:x0,y0,x1,y1@dog`."""

    corners: tuple[int, int, int, int]
    of: ClassSpec
    axis: int | None = None

    def __str__(self) -> str:
        return f"box:{','.join(map(str, self.corners))}@{self.of}{_axis(self.axis)}"

    def settled(self, scene: Scene) -> BoxSpec:
        return self if self.axis else replace(self, axis=scene.class_axis)

    def resolve(self, batch: int, labels: Labels) -> Box:
        return Box(self.corners, class_index(self.of.name, labels), self.axis or -1)


def _axis(axis: int | None) -> str:
    return "" if axis is None else f",axis={axis}"


@dataclass(frozen=True)
class PredictedSpec(TargetSpec):
    """The mean score of a class over the positions that are predicted as it: `class:dog`."""

    of: ClassSpec
    axis: int | None = None

    def __str__(self) -> str:
        return f"class:{self.of}{_axis(self.axis)}"

    def settled(self, scene: Scene) -> RegionSpec:
        axis = self.axis or scene.class_axis
        masks = predicted_classes(scene, axis) == class_index(self.of.name, scene.labels)
        for index, mask in enumerate(masks):
            if not mask.any():
                raise ImageTargetError(
                    f"`target` must be a class that is predicted somewhere, got {str(self)!r}, "
                    f"which no position of image {index} is; `xaimaps targets` lists the classes"
                )
        return RegionSpec(InMemory(masks), self.of, axis)

    def resolve(self, batch: int, labels: Labels) -> Target:
        raise TargetError(
            f"the positions of {str(self)!r} must be predicted by a model; use attribute or explain"
        )


def predicted_classes(scene: Scene, axis: int | None = None) -> Array:
    """Return the class of each position of a segmentation, `(N, h, w)`.

    A single channel is a mask: its positions are 0 inside, and -1 outside.
    """
    outputs = np.moveaxis(scene.planes, axis or scene.class_axis, -1)
    if outputs.shape[-1] > 1:
        return np.asarray(outputs.argmax(axis=-1))
    threshold = 0 if scene.backend.info.ending == "sigmoid" else 0.5
    return np.where(outputs[..., 0] > threshold, 0, -1)


@dataclass(frozen=True)
class SimilaritySpec(_FromSource):
    """The cosine with the embedding of a picture or in a file: `similarity:cat.jpg`."""

    def __str__(self) -> str:
        return f"similarity:{self._text}"

    def for_image(self, index: int) -> TargetSpec:
        return self._one_of(index, rank=1)

    def settled(self, scene: Scene) -> TargetSpec:
        vectors = checked_vector(self._vectors(scene))
        _require_another(vectors, scene.outputs)
        return SimilaritySpec(InMemory(vectors))

    def _vectors(self, scene: Scene) -> Array:
        if not isinstance(self.source, str):
            return self.source.array
        is_array = self.source.endswith(".npy")
        return _read_array(self.source) if is_array else _embedding(scene, self.source)

    def resolve(self, batch: int, labels: Labels) -> Similarity:
        if isinstance(self.source, str):
            raise TargetError(
                f"the embedding of {self.source!r} must be computed by a model; use attribute or "
                "explain"
            )
        return Similarity(batch_last(checked_vector(self.source.array), batch, 1, "embedding"))


def checked_mask(mask: Any) -> Array:
    """Return the weights of a mask.

    Raises:
        TargetError: the mask has another rank than 2 or 3, or is empty.
    """
    weights = np.asarray(mask, np.float32)
    if weights.ndim not in (2, 3) or not np.isfinite(weights).all() or not weights.any():
        raise TargetError(
            f"`mask` must be an array (h, w) or (N, h, w) that is not all zeros, got shape "
            f"{weights.shape}"
        )
    return weights


def checked_vector(embedding: Any) -> Array:
    """Return an embedding, or one for each image.

    Raises:
        TargetError: the array has another rank than 1 or 2, or is zero.
    """
    vector = np.asarray(embedding, np.float32)
    if vector.ndim not in (1, 2) or not np.isfinite(vector).all() or not vector.any():
        raise TargetError(
            f"`embedding` must be a vector (D,) or (N, D) other than zero, got shape {vector.shape}"
        )
    return vector


def _require_another(vectors: Array, outputs: Array) -> None:
    """Refuse the cosine similarity of an image to itself, as its gradient is zero."""
    if outputs.ndim != 2 or vectors.shape[-1] != outputs.shape[-1]:
        return  # the scores say what does not fit
    own = outputs / np.maximum(np.linalg.norm(outputs, axis=-1, keepdims=True), LEAST_LENGTH)
    others = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), LEAST_LENGTH)
    is_same = np.linalg.norm(own - others, axis=-1) < SAME
    if is_same.any():
        raise ImageTargetError(
            "`similarity` must be to another picture, got the embedding of image "
            f"{is_same.argmax()} itself, at which the similarity is largest and its gradient zero"
        )


def checked_axis(axis: int | None) -> int | None:
    """Return the axis of the classes of a segmentation, or raise a TargetError."""
    if axis not in (None, -1, 1):
        raise TargetError(f"`axis` must be -1 (N, h, w, C) or 1 (N, C, h, w), got {axis!r}")
    return axis


def checked_box(corners: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return the corners of a box that has pixels, or raise a TargetError."""
    x0, y0, x1, y1 = (operator.index(corner) for corner in corners)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise TargetError(
            f"`box` must be x0, y0, x1, y1 with x0 < x1 and y0 < y1, got {corners}; x1 and y1 are "
            "after the last column and row"
        )
    return x0, y0, x1, y1


def _read_mask(path: str) -> Array:
    """Read a mask from a picture, in which black is outside, or from an .npy file."""
    from xaimaps._images.open import open_picture

    if path.endswith(".npy"):
        return _read_array(path)
    return np.asarray(open_picture(path).with_channels(3).values.max(axis=-1))


def _read_array(path: str) -> Array:
    try:
        return np.asarray(np.load(Path(path), allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise TargetError(
            f"the target's file must be a NumPy array, got {path!r}, which cannot be read ({error})"
        ) from None


def _embedding(scene: Scene, path: str) -> Array:
    """Return the model's outputs for a picture, `(D,)`."""
    from xaimaps._prepare import prepare

    return np.asarray(scene.outputs_of(prepare(scene.backend, path, scene.size).images)[0])
