"""Targets other than classes: functions, single outputs, differences, regions, similarity."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from xaimaps.errors import TargetError
from xaimaps.targets._base import Array, Labels, Scoring, Target, TargetSpec, split_arrays
from xaimaps.targets._heads import Head, overlaps

_LEAST_SQUARE = 1e-24  # a vector whose squared norm is below it has no direction


EVERY_TARGET = "every target"
"""The text of the target of a method that uses none."""


class _NoClass(Target):
    """A target that is not a class."""

    def indices_in(self, xp: Any, outputs: Array) -> None:
        return None


@dataclass(frozen=True)
class EveryTarget(_NoClass, TargetSpec):
    """The target of a method that uses none: its map is the same for every target."""

    def __str__(self) -> str:
        return EVERY_TARGET

    def resolve(self, batch: int, labels: Labels) -> EveryTarget:
        return self

    @property
    def key(self) -> Hashable:
        return EVERY_TARGET

    def scores(self, xp: Any, outputs: Array) -> Array:
        raise TargetError(
            f"{EVERY_TARGET!r} is only a target of methods that use none, such as eigen_cam; give "
            "a class or another target"
        )


@dataclass(frozen=True)
class Function(_NoClass, TargetSpec):
    """A function of the outputs `(N, ...)` that returns one score `(N,)` for each image."""

    fn: Scoring

    def __str__(self) -> str:
        return f"<function {self._name}>"

    @property
    def _name(self) -> str:
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__name__

    @property
    def unrecorded(self) -> tuple[str, ...]:
        return (f"the target is the Python function {self._name!r}",)

    @property
    def is_function(self) -> bool:
        return True

    def resolve(self, batch: int, labels: Labels) -> Function:
        return self

    @property
    def key(self) -> Hashable:
        return self.fn

    def scores(self, xp: Any, outputs: Array) -> Array:
        scores = self.fn(outputs)
        shape = tuple(getattr(scores, "shape", ()))
        if shape != tuple(outputs.shape[:1]):
            raise TargetError(
                f"a target function must return one score for each of the {outputs.shape[0]} "
                f"images, got shape {shape}; sum over the other axes"
            )
        return scores


@dataclass(frozen=True)
class Output(_NoClass, TargetSpec):
    """The number at `index` after the batch axis."""

    index: tuple[int, ...]

    def __str__(self) -> str:
        return f"output:{','.join(map(str, self.index))}"

    def resolve(self, batch: int, labels: Labels) -> Output:
        return self

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
class _Located(_NoClass):
    """A score at one place of each image, or at K of them, that an array describes.

    Attributes:
        array: `(P, N)`, or `(K, P, N)`.
        head: of the detector, if it is a box whose corners and classes are in the same output.
    """

    array: Array
    head: Head | None = field(default=None, kw_only=True)

    @property
    def has_place(self) -> bool:
        return True

    @property
    def is_several(self) -> bool:
        return len(self.array.shape) == 3

    @property
    def parts(self) -> tuple[Target, ...]:
        if not self.is_several:
            return (self,)
        return tuple(replace(self, array=self.array[k, ...]) for k in range(self.array.shape[0]))

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.array,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Self:
        return replace(self, array=arrays[0])


@dataclass(frozen=True, eq=False)
class OutputsAt(_Located):
    """The product, or the sum for logits, of numbers of each image's outputs, or K of them.

    It is the class score of a box, also with an objectness for the class, or of a character. The
    array has positions in the flattened outputs.

    Attributes:
        is_logits: whether the outputs are logits.
    """

    is_logits: bool

    @property
    def key(self) -> Hashable:
        return ("outputs at", self.is_several, self.is_logits, self.head)

    def scores(self, xp: Any, outputs: Array) -> Array:
        flat = xp.reshape(outputs, (outputs.shape[0], -1))
        chosen = self.array[..., None] == xp.arange(flat.shape[1], dtype=self.array.dtype)
        values = xp.sum(xp.where(chosen, flat, xp.zeros_like(flat)), axis=-1)
        return xp.sum(values, axis=-2) if self.is_logits else xp.prod(values, axis=-2)


SAME_BOX = 0.5
"""The least overlap, as intersection over union, of a box and the same box in a changed image."""


@dataclass(frozen=True, eq=False)
class SameBox(_Located):
    """The best score of the boxes of a class that overlap a box, in rows in order of the score.

    A changed image has its boxes in other rows. The score is 0 if none of them is this box. The
    array has x0, y0, x1, y1, score and class of the box.
    """

    @property
    def key(self) -> Hashable:
        return ("same box", self.is_several, self.head)

    def scores(self, xp: Any, outputs: Array) -> Array:
        own = xp.matrix_transpose(self.array)[..., None, :]  # (..., N, 1, 6)
        overlap = overlaps(xp, outputs[..., :4], own[..., :4])
        scores, zero = outputs[..., 4], xp.zeros_like(overlap)
        is_same = (overlap >= SAME_BOX) & (xp.abs(outputs[..., 5] - own[..., 5]) < 0.5)
        return xp.max(xp.where(is_same, scores + zero, zero), axis=-1)


@dataclass(frozen=True, eq=False)
class Contrast(_NoClass):
    """The score of `pro` minus that of `contra`."""

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
        return Contrast(*split_arrays((self.pro, self.contra), arrays))

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
        plane = _plane(xp, outputs, self.channel, self.axis)
        size, wanted = tuple(self.weights.shape[:2]), tuple(plane.shape[1:])
        if size != wanted:
            raise TargetError(f"`mask` must have the outputs' size {wanted}, got {size}")
        weights = xp.moveaxis(xp.astype(self.weights, plane.dtype), -1, 0)
        whole = xp.sum(weights, axis=(-2, -1))
        # The padding of a batch has masks of zeros.
        whole = xp.where(whole == 0, xp.ones_like(whole), whole)
        return xp.sum(weights * plane, axis=(-2, -1)) / whole


@dataclass(frozen=True)
class Box(_NoClass):
    """The mean of one channel over rows y0 to y1 and columns x0 to x1 of the outputs."""

    corners: tuple[int, int, int, int]
    channel: int
    axis: int

    @property
    def has_place(self) -> bool:
        return True

    @property
    def key(self) -> Hashable:
        return ("box", self.corners, self.channel, self.axis)

    def scores(self, xp: Any, outputs: Array) -> Array:
        plane = _plane(xp, outputs, self.channel, self.axis)
        x0, y0, x1, y1 = self.corners
        height, width = plane.shape[1:]
        if y1 > height or x1 > width:
            raise TargetError(
                f"`box` must lie inside the outputs of {width} x {height}, got {self.corners}; its "
                "corners are x0, y0, x1, y1 in pixels of the outputs"
            )
        return xp.mean(plane[:, y0:y1, x0:x1], axis=(-2, -1))


def _plane(xp: Any, outputs: Array, channel: int, axis: int) -> Array:
    """Return one channel of the outputs of a segmentation, `(N, h, w)`.

    Outputs `(N, h, w)` are one channel, number 0.
    """
    if len(outputs.shape) == 3:
        outputs, axis = outputs[..., None], -1
    shape = tuple(outputs.shape)
    if len(shape) != 4 or not 0 <= channel < shape[axis]:
        raise TargetError(
            f"a region of channel {channel} needs outputs of four axes with that channel on axis "
            f"{axis}, or (N, h, w) for channel 0, got shape {shape}"
        )
    return xp.moveaxis(outputs, axis, -1)[..., channel]


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
        lengths = xp.sqrt(xp.maximum(squares, xp.full_like(squares, _LEAST_SQUARE)))
        return xp.sum(outputs * vectors, axis=-1) / lengths
