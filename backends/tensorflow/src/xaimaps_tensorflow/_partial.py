"""The calls that do not depend on a cut, and keep their values when the rest runs again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from xaimaps_tensorflow._graph import Tensor, depending_on, needed_for, tensors_in
from xaimaps_tensorflow._trace import Call, Calls


class Cut:
    """A trace of a model, cut at one call.

    Args:
        images: the images on which the model ran.
        calls: the calls of its layers.
        number: the number of the call at which to cut.

    Attributes:
        number: the number of the call at which the model is cut.
        value: the value of that call.
    """

    def __init__(self, images: Tensor, calls: Calls, number: int) -> None:
        self.number = number
        self.value = tensors_in(calls[number].value)[0]
        self._behind = depending_on([self.value])
        self._data = depending_on([images])
        self._passing = {n: call for n, call in calls.items() if self._passes_by(call)}
        self._read = set(self._read_behind())

    def _passes_by(self, call: Call) -> bool:
        """Return whether a call depends on the images, but not on the value of the cut."""
        tensors = tensors_in(call.value)
        return bool(tensors) and all(
            tensor is not self.value and tensor.op in self._data and tensor.op not in self._behind
            for tensor in tensors
        )

    def _read_behind(self) -> Iterator[Any]:
        """Return references to the values that bypass the cut and are read after it."""
        known = [one for call in self._passing.values() for one in tensors_in(call.value)]
        reads = [x for operation in self._behind for x in operation.inputs]
        between = needed_for([x for x in reads if x.op not in self._behind], known)
        reads += [x for operation in between for x in operation.inputs]
        return (x.ref() for x in reads)

    def known(self, point: Tensor, variants: int) -> dict[int, Any]:
        """Return the values of calls when the value of the cut is `point`.

        `variants` is the number of variants of the batch in `point`. Values that nothing reads
        after the cut are not repeated, so that no loop carries them.
        """
        found = {
            n: tf.nest.map_structure(lambda x: self._for(x, variants), call.value)
            for n, call in self._passing.items()
        }
        return {**found, self.number: point}

    def _for(self, value: Any, variants: int) -> Any:
        is_read = tf.is_tensor(value) and value.ref() in self._read
        return tiled(value, variants) if is_read else value


def tiled(value: Tensor, variants: int) -> Tensor:
    """Repeat a batch once for each variant."""
    return value if variants == 1 else tf.tile(value, (variants, *(1,) * (value.shape.rank - 1)))
