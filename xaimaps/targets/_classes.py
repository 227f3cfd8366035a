"""Targets that are classes: one for each image, the top classes, or several targets at once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import TargetError, nearest
from xaimaps.targets._base import (
    Array,
    Classes,
    Labels,
    Target,
    TargetSpec,
    class_scores,
    is_binary,
    split_arrays,
)
from xaimaps.targets._boxes import top_boxes

if TYPE_CHECKING:
    from xaimaps.targets._scene import Scene

_MOST_CLASSES = 2**31  # class indices are int32


@dataclass(frozen=True)
class Top(Target, TargetSpec):
    """The k classes with the highest scores, best first: `(N,)` for one, `(k, N)` for more."""

    k: int = 1
    is_binary: bool = False

    def __str__(self) -> str:
        return f"top-{self.k}"

    @property
    def is_class(self) -> bool:
        return True

    def settled(self, scene: Scene) -> TargetSpec:
        if scene.is_detector:
            return top_boxes(self, scene, self.k)
        scene.require_classes()
        return self

    def resolve(self, batch: int, labels: Labels) -> Top:
        return Top(self.k, is_binary(labels))

    @property
    def key(self) -> Hashable:
        return ("top", self.k, self.is_binary)

    @property
    def is_several(self) -> bool:
        return self.k > 1

    def indices_in(self, xp: Any, outputs: Array) -> Array:
        classes = class_scores(xp, outputs, is_binary=self.is_binary)
        if self.k > classes.shape[-1]:
            raise TargetError(
                f"`target` must ask for at most the model's {classes.shape[-1]} classes, got {self}"
            )
        if self.k == 1:
            return xp.argmax(classes, axis=-1)
        return xp.moveaxis(xp.argsort(-classes, axis=-1, stable=True)[..., : self.k], -1, 0)


@dataclass(frozen=True)
class Several(Target):
    """K targets of every image at once, `(K, N)`, from one forward pass."""

    members: tuple[Target, ...]

    @property
    def parts(self) -> tuple[Target, ...]:
        return self.members

    @property
    def is_binary(self) -> bool:
        return any(part.is_binary for part in self.parts)

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
        return Several(tuple(split_arrays(self.parts, arrays)))

    def frozen(self, xp: Any, outputs: Array) -> Target:
        return Several(tuple(part.frozen(xp, outputs) for part in self.parts))

    def scores(self, xp: Any, outputs: Array) -> Array:
        return xp.stack([part.scores(xp, outputs) for part in self.parts])

    def indices_in(self, xp: Any, outputs: Array) -> Array | None:
        indices = [part.indices_in(xp, outputs) for part in self.parts]
        return None if any(one is None for one in indices) else xp.stack(indices)


def class_index(value: int | str, labels: Labels) -> int:
    """Return the index of one class, given as an index or a label.

    Raises:
        TargetError: the index is out of range, or the label is not one of the labels.
    """
    if isinstance(value, str):
        return _label_index(value, labels)
    most = _MOST_CLASSES if labels is None else len(labels)
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
        raise TargetError(
            f"`target` must be one class, got the label {label!r} of the classes {found}; give an "
            "index"
        )
    raise TargetError(
        f"`target` must be one of the model's {len(labels)} labels, got {label!r}"
        f"{nearest(label, labels)}"
    )


def repeated_index(value: int | str, batch: int, labels: Labels) -> Classes:
    """Return the same class for every image of a batch."""
    return Classes(np.full(batch, class_index(value, labels), np.int32), is_binary(labels))
