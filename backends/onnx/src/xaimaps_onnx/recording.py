"""What each layer of a Keras model gives while it runs, under the TensorFlow backend's names.

A layer is called by its path (`conv5`, `base/conv5` inside a layer `base`), and by the number of
the call behind it where there are several (`base/conv5:1`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from xaimaps_tensorflow.tracing import Call, Tracer, operations_in


def recording(model: Any) -> AbstractContextManager[dict[int, Call]]:
    """Note the calls of all layers as long as the context lasts; the model is left as it was."""
    return Tracer(operations_in(model), {}, {}).watching()


def layer_values(calls: Mapping[int, Call]) -> dict[str, Any]:
    """The tensor that each layer gave, for those that gave one; in the order of computation."""
    counts, seen = Counter(call.path for call in calls.values()), Counter[str]()
    found = {}
    for call in calls.values():
        name = f"{call.path}:{seen[call.path]}" if counts[call.path] > 1 else call.path
        seen[call.path] += 1
        if hasattr(call.value, "shape"):
            found[name] = call.value
    return found
