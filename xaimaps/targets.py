"""What is explained: a class, several classes, the top ones, or any function of the outputs.

A target turns the outputs `(N, ...)` of a model into the score of each image, `(N,)`; one that
stands for K things at once gives `(K, N)`, from the same forward pass.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps.errors import TargetError, nearest

Array = Any
Labels = Sequence[str] | None

MOST_CLASSES = 2**31
"""Classes are counted in int32."""


class Target(ABC):
    """A function from outputs to scores that can cross the border of a compiled program.

    What changes from call to call is in `arrays`, whose last axis is the batch; what is fixed
    at compilation is in `key`.
    """

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Equal for two targets that the same compiled program serves."""

    @property
    def is_several(self) -> bool:
        """Whether the scores have a leading axis of K targets."""
        return False

    @property
    def has_place(self) -> bool:
        """Whether it names a part of the image, which is elsewhere if the image is mirrored."""
        return any(part.has_place for part in self.parts if part is not self)

    @property
    def parts(self) -> tuple[Target, ...]:
        """The K targets by themselves; of a single one, that one."""
        return (self,)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arguments of the compiled program."""
        return ()

    def with_arrays(self, arrays: tuple[Array, ...]) -> Target:
        """The same target over other arrays."""
        return self

    @abstractmethod
    def indices_in(self, xp: Any, outputs: Array) -> Array | None:
        """The class of each score, shaped like the scores; None where no class is meant."""

    def frozen(self, xp: Any, outputs: Array) -> Target:
        """The target that these outputs, of the clean images, decide on.

        The top class of a noisy or masked copy of an image may be another than the image's own.
        """
        indices = self.indices_in(xp, outputs)
        return self if indices is None else Classes(indices)

    def scores(self, xp: Any, outputs: Array) -> Array:
        """The scores `(N,)` or `(K, N)` of outputs `(N, ...)`."""
        chosen = one_hot(xp, self.indices_in(xp, outputs), outputs)
        return xp.sum(xp.where(chosen, outputs, xp.zeros_like(outputs)), axis=-1)


def one_hot(xp: Any, indices: Array, outputs: Array) -> Array:
    """Mark class `indices[..., n]` in a row of booleans for each image: `(..., N, classes)`.

    A mask instead of a gather is the same on every array namespace, and an index that is out
    of range marks nothing, instead of silently another class.
    """
    _require_classes(outputs)
    return indices[..., None] == xp.arange(outputs.shape[-1], dtype=indices.dtype)


def _require_classes(outputs: Array) -> None:
    if len(outputs.shape) != 2:
        raise TargetError(
            f"a class needs outputs of shape (batch, classes), but this model's have shape "
            f"{tuple(outputs.shape)}; give a function of the outputs as the target"
        )


@dataclass(frozen=True, eq=False)
class Classes(Target):
    """The score of one class of each image, or of K.

    Attributes:
        indices: integers `(N,)` or `(K, N)`.
    """

    indices: Array

    @property
    def key(self) -> Hashable:
        return ("classes", self.is_several)

    @property
    def is_several(self) -> bool:
        return len(self.indices.shape) == 2

    @property
    def parts(self) -> tuple[Target, ...]:
        if not self.is_several:
            return (self,)
        return tuple(Classes(self.indices[k, ...]) for k in range(self.indices.shape[0]))

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.indices,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Classes:
        return Classes(*arrays)

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        return self.indices


@dataclass(frozen=True)
class Top(Target):
    """The k classes with the highest scores, best first: `(N,)` for one, `(k, N)` for more."""

    k: int = 1

    @property
    def key(self) -> Hashable:
        return ("top", self.k)

    @property
    def is_several(self) -> bool:
        return self.k > 1

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        _require_classes(outputs)
        if self.k > outputs.shape[-1]:
            raise TargetError(
                f"`target` asks for the top {self.k}, but the model has {outputs.shape[-1]} classes"
            )
        if self.k == 1:
            return xp.argmax(outputs, axis=-1)
        return xp.moveaxis(xp.argsort(-outputs, axis=-1, stable=True)[..., : self.k], -1, 0)


@dataclass(frozen=True)
class Function(Target):
    """Any function of the outputs `(N, ...)` that gives one score `(N,)` for each image."""

    fn: Callable[[Array], Array]

    @property
    def key(self) -> Hashable:
        return self.fn

    def scores(self, xp: Any, outputs: Array) -> Array:
        scores = self.fn(outputs)
        shape = tuple(getattr(scores, "shape", ()))
        if shape != tuple(outputs.shape[:1]):
            raise TargetError(
                f"a target function must give one score for each of the {outputs.shape[0]} images, "
                f"got shape {shape}; sum over the other axes"
            )
        return scores

    def indices_in(self, xp: Any, outputs: Array) -> None:
        return None


@dataclass(frozen=True)
class Several(Target):
    """K targets of every image at once, `(K, N)`, from one forward pass."""

    members: tuple[Target, ...]

    @property
    def parts(self) -> tuple[Target, ...]:
        return self.members

    @property
    def key(self) -> Hashable:
        return tuple(part.key for part in self.parts)

    @property
    def is_several(self) -> bool:
        return True

    @property
    def arrays(self) -> tuple[Array, ...]:
        return tuple(array for part in self.parts for array in part.arrays)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Several:
        left = list(arrays)
        return Several(
            tuple(part.with_arrays(tuple(left.pop(0) for _ in part.arrays)) for part in self.parts)
        )

    def frozen(self, xp: Any, outputs: Array) -> Target:
        return Several(tuple(part.frozen(xp, outputs) for part in self.parts))

    def scores(self, xp: Any, outputs: Array) -> Array:
        return xp.stack([part.scores(xp, outputs) for part in self.parts])

    def indices_in(self, xp: Any, outputs: Array) -> Array | None:
        indices = [part.indices_in(xp, outputs) for part in self.parts]
        return None if any(one is None for one in indices) else xp.stack(indices)


class Wish(ABC):
    """What a user asked for, until the batch and the labels are known."""

    @abstractmethod
    def target(self, batch: int, labels: Labels) -> Target:
        """The target for a batch of so many images."""


@dataclass(frozen=True)
class _Each(Wish):
    """What `several` was given."""

    values: tuple[Any, ...]

    def target(self, batch: int, labels: Labels) -> Several:
        return Several(tuple(as_single(value, batch, labels) for value in self.values))


def several(*values: Any) -> Wish:
    """Explain several targets of every image at once: `several("tabby", 285)`.

    Args:
        values: class indices, labels or functions of the outputs.
    """
    if not values:
        raise TargetError("`several` needs at least one target, got none")
    return _Each(values)


def as_single(value: Any, batch: int, labels: Labels) -> Target:
    """A part of `several`, which has one score for each image."""
    target = as_target(value, batch, labels)
    if target.is_several:
        raise TargetError(
            f"`several` takes one class or function at a time, got {value!r}; name them one by one"
        )
    return target


def as_target(value: Any, batch: int, labels: Labels = None) -> Target:
    """Make a target of what a user may write.

    Args:
        value: None or "top-1" (the best class), "top-K", a class index, a label, a function of
            the outputs, `several(...)` of those, what `xaimaps.goals` makes, a list with a class
            for each image, or a target.
        batch: the number of images.
        labels: the name of each class, if known.

    Raises:
        TargetError: it is none of these, an unknown label, or a list of another length.
    """
    if isinstance(value, Target):
        return value
    if isinstance(value, Wish):
        return value.target(batch, labels)
    if value is None:
        return Top()
    if isinstance(value, str) and (top := re.fullmatch(r"top-?([1-9]\d*)", value)):
        return Top(int(top[1]))
    if callable(value):
        return Function(value)
    if isinstance(value, str | int | np.integer):
        return Classes(np.full(batch, class_index(value, labels), np.int32))
    return _one_per_image(value, batch, labels)


def _one_per_image(value: Any, batch: int, labels: Labels) -> Classes:
    """A list or an array with a class for each image; a native integer array passes as it is."""
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    if not is_array and not isinstance(value, Sequence):
        raise TargetError(_expected(value))
    shape = tuple(value.shape) if is_array else (len(value),)
    if shape == () and is_array:
        return _one_per_image([value.item()] * batch, batch, labels)
    if shape != (batch,):
        raise TargetError(
            f"`target` must have one entry for each of the {batch} images, got shape {shape}; "
            "for several targets of each image use xaimaps.several(...)"
        )
    if is_array and not isinstance(value, np.ndarray):
        return Classes(_native(value))
    return Classes(np.asarray([class_index(one, labels) for one in value], np.int32))


def _native(array: Array) -> Array:
    """A framework's own array, whose values may not be known yet, but whose type is."""
    if "int" not in str(array.dtype):
        raise TargetError(f"`target` must hold integers, got an array of {array.dtype}")
    return array


def class_index(value: Any, labels: Labels) -> int:
    """The index of one class, given as an index or a label."""
    if isinstance(value, str):
        return _label_index(value, labels)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TargetError(_expected(value))
    most = MOST_CLASSES if labels is None else len(labels)
    if not 0 <= value < most:
        last = "the number of classes - 1" if labels is None else len(labels) - 1
        raise TargetError(f"`target` must be a class from 0 to {last}, got {value}")
    return int(value)


def _label_index(label: str, labels: Labels) -> int:
    if labels is None:
        raise TargetError(
            f"`target` is the label {label!r}, but this model's labels are not known; give the "
            "index of the class, or the labels"
        )
    found = [i for i, known in enumerate(labels) if known.casefold() == label.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(f"the label {label!r} stands for the classes {found}; give an index")
    raise TargetError(
        f"`target` must be one of the model's {len(labels)} labels, got {label!r}"
        f"{nearest(label, labels)}"
    )


def _expected(value: Any) -> str:
    return (
        "`target` must be a class index, a label, 'top-K', a function of the outputs or a list "
        f"with one of them for each image, got {value!r}"
    )
