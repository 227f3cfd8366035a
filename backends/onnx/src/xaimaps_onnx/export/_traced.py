"""Arrays that record what is computed with them as ONNX nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]

PREFIX = "xaimaps/"
"""The prefix of the names of all values that an export adds to a file."""

AXES_AS_INPUT = 18
"""The opset from which on every reduction takes its axes as an input."""


class Recorder:
    """The nodes and constants to add to a file.

    Args:
        opset: the opset of the file.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def emit(
        self, operator: str, inputs: list[Any], example: Array, /, **attributes: Any
    ) -> Traced:
        """Add a node, and return its result with an example of it."""
        made = f"{PREFIX}{len(self.nodes)}"
        read = [self._name(one) for one in inputs]
        self.nodes.append(helper.make_node(operator, read, [made], f"{made}/node", **attributes))
        return Traced(self, made, example)

    def _name(self, value: Any) -> str:
        if isinstance(value, Traced | str):
            return str(value)
        name = f"{PREFIX}constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value), name))
        return name


class Traced:
    """A value of a graph, with an example of it that has its shape and type.

    Attributes:
        recorder: where operations on it are recorded.
        name: its name in the graph.
        value: the example.
    """

    __array_ufunc__ = None  # numpy's operators leave the work to those below

    def __init__(self, recorder: Recorder, name: str, value: Array) -> None:
        self.recorder, self.name, self.value = recorder, name, value

    def __str__(self) -> str:
        return self.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    def __add__(self, other: Any) -> Traced:
        return self._with("Add", np.add, other)

    def __sub__(self, other: Any) -> Traced:
        return self._with("Sub", np.subtract, other)

    def __mul__(self, other: Any) -> Traced:
        return self._with("Mul", np.multiply, other)

    def __truediv__(self, other: Any) -> Traced:
        return self._with("Div", np.divide, other)

    def __lt__(self, other: Any) -> Traced:
        return self._with("Less", np.less, other)

    def __eq__(self, other: Any) -> Traced:  # type: ignore[override]
        return self._with("Equal", np.equal, other)

    __hash__ = object.__hash__

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Traced:
        return (-self)._with("Add", np.add, other)

    def __neg__(self) -> Traced:
        return self.recorder.emit("Neg", [self], -self.value)

    def _with(self, operator: str, fn: Callable[..., Array], other: Any) -> Traced:
        second = other if isinstance(other, Traced) else np.asarray(other, self.dtype)
        return self.recorder.emit(operator, [self, second], fn(self.value, example(second)))

    def __getitem__(self, key: Any) -> Traced:
        keys = key if isinstance(key, tuple) else (key,)
        taking = sum(one is not None and one is not Ellipsis for one in keys)
        axis, found = 0, self
        for one in keys:
            if one is Ellipsis:
                axis += len(self.shape) - taking
                continue
            found = found._taken(axis, one)
            axis += not isinstance(one, int)
        return found

    def _taken(self, axis: int, key: Any) -> Traced:
        """Index one axis: a new axis, a number or a slice."""
        index = (*(slice(None),) * axis, key)
        if key is None:
            return self.recorder.emit("Unsqueeze", [self, ints(axis)], self.value[index])
        if isinstance(key, int):
            at = np.asarray(key, np.int64)
            return self.recorder.emit("Gather", [self, at], self.value[index], axis=axis)
        start, stop, step = key.indices(self.shape[axis])
        if (start, stop, step) == (0, self.shape[axis], 1):
            return self
        bounds = [ints(one) for one in (start, stop, axis, step)]
        return self.recorder.emit("Slice", [self, *bounds], self.value[index])


def example(value: Any) -> Any:
    """Return the example of a traced value, and any other value as it is."""
    return value.value if isinstance(value, Traced) else value


def ints(*values: int) -> Array:
    """Return integers as ONNX takes them."""
    return np.asarray(values, np.int64)


def traced_in(values: Any) -> Iterator[Traced]:
    """Yield the traced values among arguments."""
    for one in values:
        if isinstance(one, Traced):
            yield one
        elif isinstance(one, list | tuple):
            yield from traced_in(one)
