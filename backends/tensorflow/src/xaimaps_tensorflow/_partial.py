"""What stays as it was when a network is cut at a layer: the calls that the cut does not reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from xaimaps_tensorflow._graph import Tensor, depending_on, needed_for, tensors_in
from xaimaps_tensorflow._trace import Call, Calls


class Cut:
    """A trace of a model, cut at one call.

    Args:
        images: what the model was run on.
        calls: of its layers.
        number: the call that is cut at.

    Attributes:
        number: the same.
        value: what it returned.
    """

    def __init__(self, images: Tensor, calls: Calls, number: int) -> None:
        self.number = number
        self.value = tensors_in(calls[number].value)[0]
        self._behind = depending_on([self.value])
        self._data = depending_on([images])
        self._passing = {n: call for n, call in calls.items() if self._passes_by(call)}
        self._read = set(self._read_behind())

    def _passes_by(self, call: Call) -> bool:
        """Whether a call depends on the images, but not on the value that is cut at."""
        tensors = tensors_in(call.value)
        return bool(tensors) and all(
            tensor is not self.value and tensor.op in self._data and tensor.op not in self._behind
            for tensor in tensors
        )

    def _read_behind(self) -> Iterator[Any]:
        """Those of the values that pass by which are read behind the cut, by their references."""
        known = [one for call in self._passing.values() for one in tensors_in(call.value)]
        reads = [x for operation in self._behind for x in operation.inputs]
        between = needed_for([x for x in reads if x.op not in self._behind], known)
        reads += [x for operation in between for x in operation.inputs]
        return (x.ref() for x in reads)

    def known(self, point: Tensor, variants: int) -> dict[int, Any]:
        """What each call is to return when the value is `point`, for so many variants of it.

        Values that nothing reads behind the cut are left alone, so that no loop carries them.
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
    """A batch repeated, once for each variant of it."""
    return value if variants == 1 else tf.tile(value, (variants, *(1,) * (value.shape.rank - 1)))
