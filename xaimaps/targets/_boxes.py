"""Targets that are boxes of a detector: by rank, by a point, or the best of a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xaimaps.errors import ImageTargetError, TargetError
from xaimaps.targets._base import Array, Labels, Target, TargetSpec
from xaimaps.targets._detect import LEAST_SCORE, Detection
from xaimaps.targets._heads import Head
from xaimaps.targets._scores import OutputsAt, SameBox

if TYPE_CHECKING:
    from xaimaps.targets._scene import Scene


@dataclass(frozen=True)
class FoundBoxes(TargetSpec):
    """A target that the outputs have settled to boxes.

    Attributes:
        spec: the user's request.
        found: for each image, its K boxes.
        is_several: whether the scores have an axis of K targets.
        is_logits: see `OutputsAt`.
        head: see `OutputsAt`.
    """

    spec: TargetSpec
    found: tuple[tuple[Detection, ...], ...]
    is_several: bool
    is_logits: bool
    head: Head | None

    def __str__(self) -> str:
        return str(self.spec)

    def for_image(self, index: int) -> TargetSpec:
        return self.spec.for_image(index)

    def boxes(self, index: int) -> tuple[Detection | None, ...]:
        return self.found[index]

    def resolve(self, batch: int, labels: Labels) -> OutputsAt | SameBox:
        rows = self._by_target([[box.row for box in boxes] for boxes in self.found], np.float32)
        if rows.size:
            return SameBox(rows, head=self.head)
        places = [[box.places for box in boxes] for boxes in self.found]
        return OutputsAt(self._by_target(places, np.int32), self.is_logits, head=self.head)

    def _by_target(self, values: Sequence[Sequence[Any]], dtype: type) -> Array:
        """Return values `(N, K, P)` as `(K, P, N)`, or as `(P, N)` for a single target."""
        array: Array = np.moveaxis(np.asarray(values, dtype), 0, -1)
        return array if self.is_several else array[0]


def best_boxes(spec: TargetSpec, scene: Scene, categories: list[int | None]) -> TargetSpec:
    """Return the box with the highest score in each image, of one class each or of any."""
    pairs = zip(scene.detector, categories, strict=True)
    found = [one.best(category) for one, category in pairs]
    for index, box in enumerate(found):
        if not box.score:
            raise ImageTargetError(
                f"`target` must be a class of a box, got {str(spec)!r}, of which image {index} has "
                "none; `xaimaps targets` lists the boxes"
            )
    return _settled(spec, scene, [(box,) for box in found])


def top_boxes(spec: TargetSpec, scene: Scene, count: int) -> TargetSpec:
    """Return the first boxes of each image; one without any is explained by its best candidate."""
    if count == 1:
        return best_boxes(spec, scene, [None] * len(scene.images))
    found = [_ranked(scene, index, count)[:count] for index in range(len(scene.images))]
    return _settled(spec, scene, found, is_several=True)


def _settled(
    spec: TargetSpec,
    scene: Scene,
    found: Sequence[tuple[Detection, ...]],
    *,
    is_several: bool = False,
) -> FoundBoxes:
    is_logits = any(one.is_logits for one in scene.detector)
    heads = {one.head for one in scene.detector}
    head = heads.pop() if len(heads) == 1 else None
    return FoundBoxes(spec, tuple(found), is_several, is_logits, head)


def _ranked(scene: Scene, index: int, rank: int) -> tuple[Detection, ...]:
    """Return the listed boxes of an image, or refuse a rank beyond them."""
    found = scene.boxes[index]
    if rank > len(found):
        raise ImageTargetError(
            f"`target` must be one of the {len(found)} boxes with a score of at least "
            f"{LEAST_SCORE} in image {index}, got box {rank}; `xaimaps targets` lists them"
        )
    return found


def require_boxes(scene: Scene, spec: TargetSpec) -> None:
    """Raise a TargetError unless the model is a detector."""
    if not scene.is_detector:
        scene.require_classes()
        raise TargetError(
            f"{str(spec)!r} needs the outputs of a detector, got shape {scene.outputs.shape}; see "
            "`xaimaps targets`"
        )


class _BoxRequest(TargetSpec):
    """A box that only the outputs of a detector settle."""

    def resolve(self, batch: int, labels: Labels) -> Target:
        raise TargetError(f"{str(self)!r} must be found by a model; use attribute or explain")


@dataclass(frozen=True)
class RankedBox(_BoxRequest):
    """The box with a rank by score, from 1: `box:3`."""

    rank: int

    def __str__(self) -> str:
        return f"box:{self.rank}"

    def settled(self, scene: Scene) -> FoundBoxes:
        require_boxes(scene, self)
        found = [_ranked(scene, index, self.rank) for index in range(len(scene.images))]
        return _settled(self, scene, [(boxes[self.rank - 1],) for boxes in found])


@dataclass(frozen=True)
class BoxAt(_BoxRequest):
    """The best box that contains a point in pixels of the model's input: `box@120,80`."""

    x: int
    y: int

    def __str__(self) -> str:
        return f"box@{self.x},{self.y}"

    def settled(self, scene: Scene) -> FoundBoxes:
        require_boxes(scene, self)
        found = [(self._among(boxes, index),) for index, boxes in enumerate(scene.boxes)]
        return _settled(self, scene, found)

    def _among(self, boxes: tuple[Detection, ...], index: int) -> Detection:
        box = next((box for box in boxes if box.holds(self.x, self.y)), None)
        if box is None:
            raise ImageTargetError(
                f"no box of image {index} with a score of at least {LEAST_SCORE} contains the "
                f"point {self.x}, {self.y}; `xaimaps targets` lists the boxes"
            )
        return box
