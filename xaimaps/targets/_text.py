"""The text that a recogniser reads, and one of its characters as a target.

The outputs `(N, steps, classes)` have a class for each step along a line. A run of steps of one
class is a character. A class without a name, the blank, separates runs (connectionist temporal
classification).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xaimaps.errors import ImageTargetError, TargetError
from xaimaps.targets._base import Labels, Target, TargetSpec
from xaimaps.targets._scores import OutputsAt

if TYPE_CHECKING:
    from xaimaps.targets._scene import Scene

Array = np.ndarray[Any, Any]

BLANK = ""
"""The name of the class that is no character."""


class Character(NamedTuple):
    """A character that was read.

    Attributes:
        category: the index of its class.
        step: the step at which the score of that class is highest, of those that make it.
    """

    category: int
    step: int


def has_text(outputs: Array, labels: Labels) -> bool:
    """Return whether the outputs have a named class for each step, of which one is the blank."""
    names = list(labels or ())
    return outputs.ndim == 3 and outputs.shape[2] == len(names) and names.count(BLANK) == 1


def read_text(outputs: Array, blank: int) -> tuple[Character, ...]:
    """Return the characters of one image, in order.

    Args:
        outputs: `(steps, classes)`.
        blank: the class that is no character.
    """
    best = outputs.argmax(axis=1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    runs = zip(best[starts], starts, [*starts[1:], len(best)], strict=True)
    return tuple(
        Character(int(category), int(start + outputs[start:stop, category].argmax()))
        for category, start, stop in runs
        if category != blank
    )


@dataclass(frozen=True)
class CharacterSpec(TargetSpec):
    """The score of a character by its position in the text that is read, from 1: `text:3`."""

    position: int

    def __str__(self) -> str:
        return f"text:{self.position}"

    def settled(self, scene: Scene) -> FoundCharacter:
        if not scene.is_text:
            raise TargetError(
                f"{str(self)!r} needs outputs (N, steps, classes) and a name for each class, empty "
                f"for the blank, got shape {scene.outputs.shape}; give them by `labels` or --labels"
            )
        classes = scene.outputs.shape[2]
        found = (self._among(text, index) for index, text in enumerate(scene.text))
        return FoundCharacter(self, tuple(one.step * classes + one.category for one in found))

    def _among(self, text: tuple[Character, ...], index: int) -> Character:
        if self.position > len(text):
            raise ImageTargetError(
                f"`target` must be one of the {len(text)} characters that are read in image "
                f"{index}, got {str(self)!r}; `xaimaps targets` lists them"
            )
        return text[self.position - 1]

    def resolve(self, batch: int, labels: Labels) -> Target:
        raise TargetError(f"{str(self)!r} must be read by a model; use attribute or explain")


@dataclass(frozen=True)
class FoundCharacter(TargetSpec):
    """A character that the outputs have settled.

    Attributes:
        spec: the user's request.
        places: the position of its score in the flattened outputs of each image.
    """

    spec: CharacterSpec
    places: tuple[int, ...]

    def __str__(self) -> str:
        return str(self.spec)

    def resolve(self, batch: int, labels: Labels) -> OutputsAt:
        return OutputsAt(np.asarray([self.places], np.int32), is_logits=True)
