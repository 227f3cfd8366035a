"""What can be explained beside classes: regions, embeddings, numbers and differences.

Each function makes a value for the argument `target`. Equal ones share a compiled program, and
so do those that differ in an array only, as `similarity` to one embedding or another.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps.errors import TargetError
from xaimaps.targets import Array, Labels, Target, Wish, as_single, class_index

_LEAST = 1e-24  # a squared norm below it is no direction


def contrast(for_: Any, against: Any) -> Wish:
    """Why one thing rather than another: the first score less the second.

    Args:
        for_: a class index, a label, None for the top class, a function of the outputs, or
            what another function of this module makes.
        against: likewise.

    Example:
        >>> target = contrast("Egyptian cat", "tabby")
    """
    return _Contrast(for_, against)


def output(*index: int) -> Target:
    """One number of the outputs, as of a regression: `output(2)` of `(N, 4)`.

    Args:
        index: the place behind the batch axis; none at all for outputs `(N,)`.
    """
    return Output(tuple(operator.index(i) for i in index))


def region(mask: Any, channel: int | str, *, axis: int = -1) -> Wish:
    """The mean score of one class over a part of a segmentation.

    Args:
        mask: `(h, w)` at the size of the outputs, or `(N, h, w)` with one for each image; true
            or 1 inside of the region, 0 outside; numbers between weigh.
        channel: the class, as an index or a label.
        axis: where the outputs have their classes: -1 for `(N, h, w, C)`, 1 for `(N, C, h, w)`.

    Raises:
        TargetError: the mask has another rank, is empty, or `axis` is neither.
    """
    weights = np.asarray(mask, np.float32)
    if weights.ndim not in (2, 3) or not np.isfinite(weights).all() or not weights.any():
        raise TargetError(
            f"`mask` must be an array (h, w) or (N, h, w) that is not all zeros, got shape "
            f"{weights.shape}"
        )
    if axis not in (-1, 1):
        raise TargetError(f"`axis` must be -1 for outputs (N, h, w, C) or 1, got {axis!r}")
    return _Region(weights, channel, axis)


def similarity(embedding: Any) -> Wish:
    """How much an embedding `(N, D)` points where another does: the cosine between them.

    Args:
        embedding: `(D,)`, or `(N, D)` with one for each image.

    Raises:
        TargetError: it has another rank, or is zero.
    """
    vector = np.asarray(embedding, np.float32)
    if vector.ndim not in (1, 2) or not np.isfinite(vector).all() or not vector.any():
        raise TargetError(
            f"`embedding` must be a vector (D,) or (N, D) other than zero, got shape {vector.shape}"
        )
    return _Similarity(vector)


class _NoClass(Target):
    """A target that stands for no class."""

    def indices_in(self, xp: Any, outputs: Array) -> None:
        return None


@dataclass(frozen=True)
class Output(_NoClass):
    """The number at `index` behind the batch axis."""

    index: tuple[int, ...]

    @property
    def key(self) -> Hashable:
        return ("output", self.index)

    def scores(self, xp: Any, outputs: Array) -> Array:
        shape = tuple(outputs.shape[1:])
        fits = len(shape) == len(self.index) and all(
            -size <= i < size for i, size in zip(self.index, shape, strict=True)
        )
        if not fits:
            raise TargetError(
                f"`output` must name one number of outputs of shape (N, *{shape}), got {self.index}"
            )
        return outputs[(slice(None), *self.index)]


@dataclass(frozen=True, eq=False)
class Contrast(_NoClass):
    """The score of `pro` less that of `contra`."""

    pro: Target
    contra: Target

    @property
    def has_place(self) -> bool:
        return self.pro.has_place or self.contra.has_place

    @property
    def key(self) -> Hashable:
        return ("contrast", self.pro.key, self.contra.key)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (*self.pro.arrays, *self.contra.arrays)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Contrast:
        count = len(self.pro.arrays)
        return Contrast(
            self.pro.with_arrays(arrays[:count]), self.contra.with_arrays(arrays[count:])
        )

    def frozen(self, xp: Any, outputs: Array) -> Contrast:
        return Contrast(self.pro.frozen(xp, outputs), self.contra.frozen(xp, outputs))

    def scores(self, xp: Any, outputs: Array) -> Array:
        return self.pro.scores(xp, outputs) - self.contra.scores(xp, outputs)


@dataclass(frozen=True, eq=False)
class Region(_NoClass):
    """The weighted mean of one channel.

    Attributes:
        weights: `(h, w, N)`.
        channel: its index.
        axis: of the channels.
    """

    weights: Array
    channel: int
    axis: int

    @property
    def has_place(self) -> bool:
        return True

    @property
    def key(self) -> Hashable:
        return ("region", self.channel, self.axis)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.weights,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Region:
        return Region(arrays[0], self.channel, self.axis)

    def scores(self, xp: Any, outputs: Array) -> Array:
        shape, size = tuple(outputs.shape), tuple(self.weights.shape[:2])
        if len(shape) != 4 or not 0 <= self.channel < shape[self.axis]:
            raise TargetError(
                f"a region of channel {self.channel} needs outputs with that many channels on axis "
                f"{self.axis} of four, but this model's have shape {shape}"
            )
        plane = xp.moveaxis(outputs, self.axis, -1)[..., self.channel]
        if tuple(plane.shape[1:]) != size:
            raise TargetError(
                f"`mask` must have the outputs' size {tuple(plane.shape[1:])}, got {size}"
            )
        weights = xp.moveaxis(xp.astype(self.weights, plane.dtype), -1, 0)
        whole = xp.sum(weights, axis=(-2, -1))
        whole = xp.where(whole == 0, xp.ones_like(whole), whole)  # of the padding of a batch
        return xp.sum(weights * plane, axis=(-2, -1)) / whole


@dataclass(frozen=True, eq=False)
class Similarity(_NoClass):
    """The cosine between the outputs and vectors `(D, N)`."""

    vectors: Array

    @property
    def key(self) -> Hashable:
        return "similarity"

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.vectors,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Similarity:
        return Similarity(*arrays)

    def scores(self, xp: Any, outputs: Array) -> Array:
        vectors = xp.matrix_transpose(xp.astype(self.vectors, outputs.dtype))
        if tuple(outputs.shape) != tuple(vectors.shape):
            raise TargetError(
                f"`embedding` must be of the outputs' shape {tuple(outputs.shape)}, got "
                f"{tuple(vectors.shape)}"
            )
        squares = xp.sum(outputs * outputs, axis=-1) * xp.sum(vectors * vectors, axis=-1)
        lengths = xp.sqrt(xp.maximum(squares, xp.full_like(squares, _LEAST)))
        return xp.sum(outputs * vectors, axis=-1) / lengths


@dataclass(frozen=True)
class _Contrast(Wish):
    pro: Any
    contra: Any

    def target(self, batch: int, labels: Labels) -> Contrast:
        sides = (as_single(side, batch, labels) for side in (self.pro, self.contra))
        return Contrast(*sides)


@dataclass(frozen=True, eq=False)
class _Region(Wish):
    weights: np.ndarray[Any, Any]
    channel: int | str
    axis: int

    def target(self, batch: int, labels: Labels) -> Region:
        channel = class_index(self.channel, labels)
        return Region(_batch_last(self.weights, batch, 2, "mask"), channel, self.axis)


@dataclass(frozen=True, eq=False)
class _Similarity(Wish):
    vector: np.ndarray[Any, Any]

    def target(self, batch: int, labels: Labels) -> Similarity:
        return Similarity(_batch_last(self.vector, batch, 1, "embedding"))


def _batch_last(
    array: np.ndarray[Any, Any], batch: int, rank: int, name: str
) -> np.ndarray[Any, Any]:
    """One array of a rank for every image, or one for each, as `(..., N)`."""
    if array.ndim == rank:
        return np.repeat(array[..., None], batch, axis=-1)
    if len(array) != batch:
        raise TargetError(f"`{name}` must be one, or one for each of the {batch} images")
    return np.moveaxis(array, 0, -1)
