"""The targets that an exported file can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xaimaps._attribute import classes_of
from xaimaps.errors import TargetError
from xaimaps.methods import Method
from xaimaps.targets import Classes, EveryTarget, Target, Top, as_spec, class_scores
from xaimaps_onnx.export._traced import Recorder, Traced

TARGET = "target"
"""The name of the input of a class."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Wanted:
    """What the map of a file explains.

    Attributes:
        text: "input", "all", "every target", or a class as text.
        goal: the target of the method.
        is_all: whether there is a map for each class.
        is_input: whether the class is an input of the file.
    """

    text: str
    goal: Target
    is_all: bool = False
    is_input: bool = False


def wanted_target(
    row: Method, target: Any, outputs: Traced, labels: tuple[str, ...] | None, recorder: Recorder
) -> Wanted:
    """Return the target of a method.

    Args:
        row: the method.
        target: "input", "all", a class, a label, or None for the top class.
        outputs: the scores, `(N, classes)`.
        labels: the names of the classes.
        recorder: of the file.

    Raises:
        TargetError: it is another target.
    """
    if not row.uses_target:
        return _every(row, target)
    scores = np.zeros(outputs.shape, np.float32)
    if target == "input":
        index = Traced(recorder, TARGET, outputs.shape[:1], np.int64)
        return Wanted("input", Classes(index, len(labels or ()) == 2), is_input=True)
    if target == "all":
        count = class_scores(np, scores, is_binary=len(labels or ()) == 2).shape[-1]
        return Wanted("all", Classes(np.arange(count)[:, None], len(labels or ()) == 2), True)
    spec = as_spec(target, 1)
    goal = spec.resolve(1, labels)
    if not isinstance(goal, Top | Classes) or goal.is_several:
        raise TargetError(
            "`target` of an exported file must be a class, a label, top-1, 'input' or 'all', got "
            f"{str(spec)!r}"
        )
    classes_of(goal, scores)
    return Wanted(str(spec), goal)


def _every(row: Method, target: Any) -> Wanted:
    if target is not None:
        raise TargetError(
            f"`target` must be None for {row.name!r}, whose map is the same for every target, got "
            f"{target!r}"
        )
    return Wanted(str(EveryTarget()), EveryTarget())
