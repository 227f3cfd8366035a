"""The results of single images as one result of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xaimaps._results.attribution import Attribution, Seconds
from xaimaps.targets import TargetSpec

ARRAYS = ("maps", "scores", "classes", "target_scores", "vectors")
TUPLES = ("display", "boxes", "explained_boxes", "pictures", "views")


def joined(parts: Sequence[Attribution], target: TargetSpec) -> Attribution:
    """Join the results of single images by one method, each with its own values of other inputs.

    Args:
        parts: the results, in the order of the images.
        target: the target of the whole batch.
    """
    first = parts[0]
    changes: dict[str, Any] = {name: _array(parts, name) for name in ARRAYS}
    for name in TUPLES:
        changes[name] = tuple(itertools.chain.from_iterable(getattr(one, name) for one in parts))
    return replace(
        first,
        target=target if first.row.uses_target else first.target,
        details={
            name: np.concatenate([one.details[name] for one in parts]) for name in first.details
        },
        inputs=tuple(one.model.inputs for one in parts),
        seconds=Seconds(*map(sum, zip(*(one.seconds for one in parts), strict=True))),
        **changes,
    )


def _array(parts: Sequence[Attribution], name: str) -> Any:
    arrays = [getattr(one, name) for one in parts]
    return None if arrays[0] is None else np.concatenate(arrays)
