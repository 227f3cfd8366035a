"""Arrays that record what is computed with them as ONNX nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

PREFIX = "xaimaps/"
"""The prefix of the names of all values that an export adds to a file."""

AXES_AS_INPUT = 18
"""The opset from which on every reduction takes its axes as an input."""


class Recorder:
    """The nodes and constants to add to a file, or to a subgraph in it.

    A node is added where the innermost of its inputs is, so that a loop does not repeat what is the
    same in each turn.

    Args:
        opset: the opset of the file.
        batch: the number that represents the batch size in all shapes, if the file takes any. It
            divides no other size. None for a fixed batch.
        images: the name of the images, whose first axis is the batch.
        outer: the recorder around this one.
    """

    def __init__(
        self, opset: int, batch: int | None = None, images: str = "", outer: Recorder | None = None
    ) -> None:
        self.opset, self.batch, self.images = opset, batch, images
        self.outermost: Recorder = outer.outermost if outer else self
        self.depth: int = outer.depth + 1 if outer else 0
        self.nodes: list[onnx.NodeProto] = []
        if outer is None:
            self.current: Recorder = self
            self._constants: dict[Any, onnx.TensorProto] = {}
            self._sizes: dict[Shape, Traced] = {}
            self._filled: dict[tuple[Shape, float, Any], Traced] = {}
            self._names = itertools.count()

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """The constants of all recorders."""
        return list(self.outermost._constants.values())

    @contextmanager
    def body(self) -> Iterator[Recorder]:
        """Give the recorder of a subgraph in the current one, which is the current one meanwhile.

        A loop or condition reads values of all graphs around it, so it can only be in the current
        one. Only the outermost recorder has a current one.
        """
        around = self.current
        self.current = Recorder(self.opset, self.batch, self.images, around)
        try:
            yield self.current
        finally:
            self.current = around

    def name(self) -> str:
        """Return the name of a new value."""
        return f"{PREFIX}{next(self.outermost._names)}"

    def emit(self, operator: str, inputs: Sequence[Any], /, **attributes: Any) -> Traced:
        """Add a node, and return its result.

        Args:
            operator: an operator of ONNX with one output.
            inputs: traced values, and arrays that become constants.
            attributes: those of the operator.
        """
        return self.emit_here(operator, inputs, self._innermost(inputs), **attributes)

    def emit_here(
        self, operator: str, inputs: Sequence[Any], at: Recorder, /, **attributes: Any
    ) -> Traced:
        """Add a node to a given recorder; see `emit`."""
        made, read = self.name(), [self.constant(one) for one in inputs]
        names = ["" if one is None else one.name for one in read]
        node = helper.make_node(operator, names, [made], f"{made}/node", **attributes)
        at.nodes.append(node)
        return Traced(at, made, *self._inferred(node, [one for one in read if one is not None]))

    def _innermost(self, inputs: Sequence[Any]) -> Recorder:
        places = [one.recorder for one in traced_in(inputs)]
        return max(places, key=lambda one: one.depth, default=self.outermost)

    def _inferred(self, node: onnx.NodeProto, inputs: Sequence[Traced]) -> tuple[Shape, Any]:
        """Return the shape and type of a node's result, as ONNX infers them."""
        types = {
            one.name: helper.make_tensor_type_proto(
                helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), one.shape
            )
            for one in inputs
        }
        data = {
            one.name: numpy_helper.from_array(one.known) for one in inputs if one.known is not None
        }
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        opset = helper.make_opsetid("", self.opset)
        found = infer_node_outputs(schema, node, types, data, opset_imports=[opset])
        made = found[node.output[0]].tensor_type
        shape = tuple(dim.dim_value for dim in made.shape.dim)
        return shape, helper.tensor_dtype_to_np_dtype(made.elem_type)

    def constant(self, value: Any) -> Any:
        """Return an array as a traced value; a traced value or None is returned as it is."""
        if value is None or isinstance(value, Traced):
            return value
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        kept = self.outermost._constants
        if key not in kept:
            kept[key] = numpy_helper.from_array(array, f"{PREFIX}constant/{len(kept)}")
        known = array if array.dtype == np.int64 else None
        return Traced(self.outermost, kept[key].name, array.shape, array.dtype, known)

    def is_batch(self, size: int) -> bool:
        """Return whether a size is that of the batch, or a multiple of it."""
        return self.batch is not None and size > 0 and size % self.batch == 0

    def sizes(self, shape: Sequence[int]) -> Any:
        """Return a shape as an input of a node; the batch is read from the images."""
        if self.batch is None or not any(map(self.is_batch, shape)):
            return ints(*shape)
        known = self.outermost._sizes
        if tuple(shape) not in known:
            known[tuple(shape)] = self._read_sizes(shape)
        return known[tuple(shape)]

    def _read_sizes(self, shape: Sequence[int]) -> Traced:
        of_images = self.emit("Shape", [Traced(self.outermost, self.images, (1,), np.float32)])
        batch = self.emit("Gather", [of_images, ints(0)])
        parts: list[Any] = [
            batch * (size // self.batch) if self.batch and self.is_batch(size) else ints(size)
            for size in shape
        ]
        whole = self.emit("Concat", parts, axis=0)
        return Traced(whole.recorder, whole.name, whole.shape, whole.dtype, ints(*shape))

    def full(self, shape: Sequence[int], value: float, dtype: Any) -> Traced:
        """Return an array of one number, which may have the batch among its axes."""
        known, key = self.outermost._filled, (tuple(shape), value, np.dtype(dtype))
        if key not in known:
            known[key] = self.emit("Expand", [np.asarray(value, dtype), self.sizes(shape)])
        return known[key]


class Traced:
    """A value of a graph.

    Attributes:
        recorder: where it is computed.
        name: its name in the graph.
        shape: its shape, for the batch of the recorder.
        dtype: its type.
        known: its value for the batch of the recorder, if it is a shape or an index.
        is_gradient: whether it is a gradient that arrives at a node, so that it is finite.
    """

    __array_ufunc__ = None  # numpy's operators leave the work to those below

    def __init__(
        self, recorder: Recorder, name: str, shape: Shape, dtype: Any, known: Array | None = None
    ) -> None:
        self.recorder, self.name, self.known = recorder, name, known
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype)
        self.is_gradient = False

    def __str__(self) -> str:
        return self.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __add__(self, other: Any) -> Traced:
        return self._with("Add", other)

    def __sub__(self, other: Any) -> Traced:
        return self._with("Sub", other)

    def __mul__(self, other: Any) -> Traced:
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> Traced:
        return self._with("Div", other)

    def __pow__(self, other: Any) -> Traced:
        return self._with("Pow", other)

    def __lt__(self, other: Any) -> Traced:
        return self._with("Less", other)

    def __gt__(self, other: Any) -> Traced:
        return self._with("Greater", other)

    def __le__(self, other: Any) -> Traced:
        return self._with("LessOrEqual", other)

    def __ge__(self, other: Any) -> Traced:
        return self._with("GreaterOrEqual", other)

    def __eq__(self, other: Any) -> Traced:  # type: ignore[override]
        return self._with("Equal", other)

    def __ne__(self, other: Any) -> Traced:  # type: ignore[override]
        return self.recorder.emit("Not", [self == other])

    __hash__ = object.__hash__

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Traced:
        return self._before("Sub", other)

    def __rtruediv__(self, other: Any) -> Traced:
        return self._before("Div", other)

    def __neg__(self) -> Traced:
        return self.recorder.emit("Neg", [self])

    def _with(self, operator: str, other: Any) -> Traced:
        return self.recorder.emit(operator, [self, self._same_type(other)])

    def _before(self, operator: str, other: Any) -> Traced:
        return self.recorder.emit(operator, [self._same_type(other), self])

    def _same_type(self, other: Any) -> Any:
        return other if isinstance(other, Traced) else np.asarray(other, self.dtype)

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
        if key is None:
            return self.recorder.emit("Unsqueeze", [self, ints(axis)])
        if isinstance(key, int):
            return self.recorder.emit("Gather", [self, np.asarray(key, np.int64)], axis=axis)
        start, stop, step = key.indices(self.shape[axis])
        if (start, stop, step) == (0, self.shape[axis], 1):
            return self
        stop = stop if stop >= 0 else -self.shape[axis] - 1  # ONNX counts -1 from the end
        bounds = [ints(one) for one in (start, stop, axis, step)]
        return self.recorder.emit("Slice", [self, *bounds])


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
