"""Printable requests for targets: classes, and compositions of other targets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import TargetError
from xaimaps.targets._base import Array, Classes, Labels, Target, TargetSpec, is_binary
from xaimaps.targets._boxes import best_boxes
from xaimaps.targets._classes import Several, class_index, repeated_index
from xaimaps.targets._scores import EVERY_TARGET, Contrast

if TYPE_CHECKING:
    from xaimaps.targets._detect import Detection
    from xaimaps.targets._scene import Scene

KINDS = ("region", "class", "box", "output", "similarity", "similar", "text")
"""The prefixes, before a colon, of kinds of targets."""

# Text with a special meaning in the grammar, which is literal only in quotes.
_SPECIAL = re.compile(rf'["@:;,()\[\]<>]|\svs\s|^top-?[1-9]\d*$|^-?\d+$|^{EVERY_TARGET}$', re.ASCII)


def quoted(text: str) -> str:
    """Put a label or a path in quotes if it would otherwise have a special meaning."""
    is_plain = text and text == text.strip() and not _SPECIAL.search(text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True)
class ClassSpec(TargetSpec):
    """One class, by its index or its label."""

    name: int | str

    def __str__(self) -> str:
        return quoted(self.name) if isinstance(self.name, str) else str(self.name)

    @property
    def is_class(self) -> bool:
        return True

    def settled(self, scene: Scene) -> TargetSpec:
        return _class_boxes(self, scene, [self.name] * len(scene.images))

    def resolve(self, batch: int, labels: Labels) -> Classes:
        return repeated_index(self.name, batch, labels)


@dataclass(frozen=True)
class PerImageSpec(TargetSpec):
    """A class for each image of the batch."""

    names: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"[{', '.join(str(ClassSpec(name)) for name in self.names)}]"

    @property
    def is_class(self) -> bool:
        return True

    def for_image(self, index: int) -> ClassSpec:
        return ClassSpec(self.names[index])

    def settled(self, scene: Scene) -> TargetSpec:
        return _class_boxes(self, scene, self.names)

    def resolve(self, batch: int, labels: Labels) -> Classes:
        require_one_per_image((len(self.names),), batch)
        indices = np.asarray([class_index(name, labels) for name in self.names], np.int32)
        return Classes(indices, is_binary(labels))


def _class_boxes(spec: TargetSpec, scene: Scene, names: Sequence[int | str]) -> TargetSpec:
    """Return the best box of a class in each image if the model is a detector, else the classes."""
    if not scene.is_detector:
        scene.require_classes()
        return spec
    require_one_per_image((len(names),), len(scene.images))
    return best_boxes(spec, scene, [scene.category(name) for name in names])


def require_one_per_image(shape: Sequence[int], batch: int) -> None:
    """Raise a TargetError unless there is one class for each image."""
    if tuple(shape) != (batch,):
        raise TargetError(
            f"`target` must have one entry for each of the {batch} images, got shape "
            f"{tuple(shape)}; for several targets of each image use xaimaps.several(...)"
        )


@dataclass(frozen=True, eq=False)
class Given(TargetSpec):
    """A `Target` that the user gave, or a framework's own array of classes."""

    target: Target

    def __str__(self) -> str:
        if isinstance(self.target, Classes) and not self.target.is_several:
            return str(PerImageSpec(tuple(np.asarray(self.target.indices).tolist())))
        return f"<{type(self.target).__name__}>"

    @property
    def unrecorded(self) -> tuple[str, ...]:
        text = str(self)
        return (f"the target is {text}, made in Python",) if text.startswith("<") else ()

    @property
    def is_class(self) -> bool:
        return isinstance(self.target, Classes)

    def for_image(self, index: int) -> TargetSpec:
        if isinstance(self.target, Classes) and not self.target.is_several:
            return ClassSpec(int(np.asarray(self.target.indices)[index]))
        return self

    def resolve(self, batch: int, labels: Labels) -> Target:
        if isinstance(self.target, Classes):
            require_one_per_image(self.target.indices.shape[-1:], batch)
            return Classes(self.target.indices, self.target.is_binary or is_binary(labels))
        return self.target


@dataclass(frozen=True)
class _Composite(TargetSpec):
    """A target composed of other targets."""

    children: tuple[TargetSpec, ...]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for child in self.children for file in child.files)

    @property
    def unrecorded(self) -> tuple[str, ...]:
        return tuple(why for child in self.children for why in child.unrecorded)

    @property
    def is_function(self) -> bool:
        return any(child.is_function for child in self.children)

    def for_image(self, index: int) -> TargetSpec:
        return self._mapped(lambda child: child.for_image(index))

    def settled(self, scene: Scene) -> TargetSpec:
        return self._mapped(lambda child: child.settled(scene))

    def _mapped(self, change: Callable[[TargetSpec], TargetSpec]) -> TargetSpec:
        return type(self)(tuple(map(change, self.children)))

    def _singles(self, batch: int, labels: Labels) -> list[Target]:
        """Resolve the children, each of which must have one score for each image."""
        return [_single(child, batch, labels) for child in self.children]


class SeveralSpec(_Composite):
    """Several targets of every image: `tabby; 285`, or `tabby;` for a single one."""

    def __str__(self) -> str:
        texts = [f"({one})" if isinstance(one, SeveralSpec) else str(one) for one in self.children]
        return "; ".join(texts) if len(texts) > 1 else f"{texts[0]};"

    @property
    def members(self) -> tuple[TargetSpec, ...]:
        return self.children

    @property
    def is_class(self) -> bool:
        return all(child.is_class for child in self.children)

    def boxes(self, index: int) -> tuple[Detection | None, ...]:
        return tuple(box for child in self.children for box in child.boxes(index) or (None,))

    def resolve(self, batch: int, labels: Labels) -> Several:
        return Several(tuple(self._singles(batch, labels)))


class ContrastSpec(_Composite):
    """One score minus another: `Egyptian cat vs tabby`."""

    def __str__(self) -> str:
        return " vs ".join(
            f"({one})" if isinstance(one, _Composite) else str(one) for one in self.children
        )

    def resolve(self, batch: int, labels: Labels) -> Contrast:
        return Contrast(*self._singles(batch, labels))


def _single(spec: TargetSpec, batch: int, labels: Labels) -> Target:
    target = spec.resolve(batch, labels)
    if target.is_several:
        raise TargetError(
            f"`several` and `contrast` must have single targets, got {str(spec)!r}; name them "
            "one by one"
        )
    return target


def batch_last(
    array: np.ndarray[Any, Any], batch: int, rank: int, name: str
) -> np.ndarray[Any, Any]:
    """Move the batch axis last, `(..., N)`; an array without batch axis is repeated."""
    if array.ndim == rank:
        return np.repeat(array[..., None], batch, axis=-1)
    if len(array) != batch:
        raise TargetError(
            f"`{name}` must be one, or one for each of the {batch} images, got {len(array)}"
        )
    return np.moveaxis(array, 0, -1)


def native_classes(array: Array) -> Given:
    """Make a target from a framework's own array, whose values may not be known yet."""
    if "int" not in str(array.dtype):
        raise TargetError(f"`target` must hold integers, got an array of {array.dtype}")
    return Given(Classes(array))
