"""The meaning of axes followed from the images through the graph, one rule for each operator.

An operator without a rule is taken for elementwise: an axis of its result means what the axes of
that size mean that it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnxjax.graph import Node

from xaimaps_onnx._axes import (
    Axes,
    Axis,
    Part,
    Shape,
    axis_of,
    grid_of,
    kind_of,
    regroup,
    unknown,
)


@dataclass(frozen=True)
class Reading:
    """What a rule sees of a node.

    Attributes:
        node: the node.
        shape: of its first output.
        axes: of the inputs that depend on the images, None for the others.
        shapes: of the inputs, as far as they have one.
        statics: values that are known while the graph is traced.
    """

    node: Node
    shape: Shape
    axes: Sequence[Axes | None]
    shapes: Sequence[Shape | None]
    statics: Mapping[str, np.ndarray[Any, Any]]

    def integers(self, attribute: str, position: int) -> list[int] | None:
        """Integers that opsets give as an attribute or as an input."""
        found = self.node.attributes.get(attribute)
        names = self.node.inputs
        if found is None and position < len(names) and names[position] in self.statics:
            found = np.ravel(self.statics[names[position]])
        return None if found is None else [int(i) for i in np.ravel(found)]


AxisRule = Callable[[Reading, Axes], Axes]
RULES: dict[str, AxisRule] = {}


def rule(*operators: str) -> Callable[[AxisRule], AxisRule]:
    """Register how the axes of a result follow from those of the first known input."""

    def register(fn: AxisRule) -> AxisRule:
        RULES.update(dict.fromkeys(operators, fn))
        return fn

    return register


def read_axes(
    nodes: Sequence[Node],
    known: Mapping[str, Axes],
    shapes: Mapping[str, Shape],
    statics: Mapping[str, np.ndarray[Any, Any]],
) -> dict[str, Axes]:
    """The axes of every value whose shape is known.

    Args:
        nodes: in the order of computation.
        known: the axes of the graph's inputs.
        shapes: of the values that depend on the images, and of the weights.
        statics: values that are known while the graph is traced.
    """
    found = dict(known)
    for node in nodes:
        sources = node.reads if node.subgraphs else node.inputs
        axes = [found.get(name) for name in sources]
        data = next((a for a in axes if a is not None), None)
        for name in node.outputs:
            if name in shapes and data is not None:
                every = [_shape(i, shapes, statics) for i in sources]
                reading = Reading(node, shapes[name], axes, every, statics)
                found[name] = RULES.get(node.operator, _elementwise)(reading, data)
    return found


def _shape(
    name: str, shapes: Mapping[str, Shape], statics: Mapping[str, np.ndarray[Any, Any]]
) -> Shape | None:
    return shapes.get(name) or (statics[name].shape if name in statics else None)


def _elementwise(reading: Reading, data: Axes) -> Axes:
    """Inputs that are broadcast together; the most that any of them knows of an axis."""
    result = list(unknown(reading.shape))
    for axes in reading.axes:
        for place in range(-1, -1 - min(len(axes or ()), len(result)), -1):
            axis = axes[place] if axes else ()
            if math.prod(p.size for p in axis) == reading.shape[place]:
                result[place] = _better(result[place], axis)
    return tuple(result)


def _better(old: Axis, new: Axis) -> Axis:
    return new if _knowledge(new) > _knowledge(old) else old


def _knowledge(axis: Axis) -> int:
    if not axis or any(part.kind == "?" for part in axis):
        return 0
    return 1 if kind_of(axis) == "?" else 2


@rule(
    *["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool"],
    *[
        "GlobalMaxPool",
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LRN",
        "DepthToSpace",
    ],
    *["SpaceToDepth", "QLinearConv", "FusedConv", "DeformConv", "QLinearGlobalAveragePool"],
    "QLinearAveragePool",
)
def _planar(reading: Reading, data: Axes) -> Axes:
    """Whatever came before, the result is (batch, channels, rows, columns)."""
    shape = reading.shape
    if len(shape) != 4:
        return _elementwise(reading, data)
    return (data[0], *(axis_of(kind, n) for kind, n in zip("CHW", shape[1:], strict=True)))


@rule("MatMul", "QLinearMatMul", "MatMulInteger", "FusedMatMul")
def _matmul(reading: Reading, data: Axes) -> Axes:
    shape = reading.shape
    second = 3 if reading.node.operator == "QLinearMatMul" else 1
    left, right = reading.axes[0], reading.axes[second]
    outer = _elementwise(
        replace(reading, shape=shape[:-2], axes=[a[:-2] if a else None for a in (left, right)]),
        data,
    )
    rows = left[-2] if left and len(left) > 1 else axis_of("?", shape[-2])
    return (*outer, rows, right[-1] if right else axis_of("C", shape[-1]))


@rule("Gemm", "QGemm", "FusedGemm")
def _gemm(reading: Reading, data: Axes) -> Axes:
    rows = data[1 if reading.node.attributes.get("transA") else 0]
    return rows, axis_of("C", reading.shape[1])


@rule("Transpose")
def _transpose(reading: Reading, data: Axes) -> Axes:
    order = reading.node.attributes.get("perm") or range(len(data))[::-1]
    return tuple(data[axis] for axis in order)


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(reading: Reading, data: Axes) -> Axes:
    return regroup(data, reading.shape)


@rule("Concat", "QLinearConcat")
def _concat(reading: Reading, data: Axes) -> Axes:
    rank = len(reading.shape)
    axis = int(reading.node.attributes["axis"]) % rank
    result = list(_elementwise(reading, data))
    result[axis] = _joined(reading, axis)
    return tuple(result)


def _joined(reading: Reading, axis: int) -> Axis:
    """Channels beside channels, or tokens behind others; rows are no longer in order."""
    size, start, found = reading.shape[axis], 0, None
    kinds = {kind_of(axes[axis]) for axes in reading.axes if axes}
    for axes, shape in zip(reading.axes, reading.shapes, strict=True):
        if axes and kind_of(axes[axis]) in "ST":
            if found is not None:
                return axis_of("?", size)
            grid = grid_of(axes[axis])
            found = replace(grid, start=grid.start + start)
        start += shape[axis] if shape is not None and len(shape) > axis else 0
    if found is not None:
        return (Part.whole("T", size, found),)
    return axis_of("C" if kinds <= {"C", "1"} else "?", size)


@rule(*["Slice", "Split", "Pad", "Resize", "Upsample", "Gather", "CenterCropPad", "Tile"])
def _resized(reading: Reading, data: Axes) -> Axes:
    """Each axis on its own: longer, shorter, or taken away by one index."""
    if reading.node.operator == "Gather" and len(reading.shape) != len(data):
        return _picked(reading, data)
    pairs = zip(data, reading.shape, strict=True)
    return tuple(
        axis if math.prod(p.size for p in axis) == size else _part_of(reading, place, axis, size)
        for place, (axis, size) in enumerate(pairs)
    )


def _picked(reading: Reading, data: Axes) -> Axes:
    if takes_all(reading.shapes[0], reading.statics.get(reading.node.inputs[1])):
        return regroup(data, reading.shape)
    axis = int(reading.node.attributes.get("axis", 0)) % len(data)
    wide = len(reading.shape) - len(data) + 1
    between = unknown(reading.shape[axis : axis + wide])
    return (*data[:axis], *between, *data[axis + 1 :])


def takes_all(shape: Shape | None, indices: np.ndarray[Any, Any] | None) -> bool:
    """Whether the indices take all of a vector in order, so that only its shape changes."""
    if shape is None or len(shape) != 1 or indices is None or indices.size != shape[0]:
        return False
    return bool((np.ravel(indices) == np.arange(shape[0])).all())


def _part_of(reading: Reading, place: int, axis: Axis, size: int) -> Axis:
    kind = kind_of(axis)
    if kind in "HWC":
        return axis_of(kind, size)
    if kind == "1" and reading.node.operator in ("Resize", "Upsample"):
        return axis_of("?", size)
    return _tokens_left(reading, place, axis, size) if kind == "T" else axis_of("?", size)


def _tokens_left(reading: Reading, place: int, axis: Axis, size: int) -> Axis:
    """Tokens of which a slice takes some: the grid alone, or with others, or none of it."""
    span, grid = token_span(reading.node, reading.statics, place, axis), grid_of(axis)
    if span is None or span[0] > grid.start or span[1] < grid.stop:
        return axis_of("?", size)
    left = replace(grid, start=grid.start - span[0])
    if left.start == 0 and left.stop == size:
        return Part.whole("H", grid.rows), Part.whole("W", grid.columns)
    return (Part.whole("T", size, left),)


def token_span(
    node: Node, statics: Mapping[str, np.ndarray[Any, Any]], place: int, axis: Axis
) -> tuple[int, int] | None:
    """The first and the last position, plus one, that a node takes of one axis."""
    total = axis[0].total
    if node.operator == "Gather":
        indices = statics.get(node.inputs[1])
        if indices is None or not indices.size:
            return None
        every = np.ravel(indices) % total
        return int(every.min()), int(every.max()) + 1
    return _slice_span(node, statics, place, total) if node.operator == "Slice" else None


def _slice_span(
    node: Node, statics: Mapping[str, np.ndarray[Any, Any]], place: int, total: int
) -> tuple[int, int] | None:
    given = [statics.get(name) for name in node.inputs[1:]]
    starts, ends = (
        node.attributes.get(key, given[i] if i < len(given) else None)
        for i, key in enumerate(("starts", "ends"))
    )
    if starts is None or ends is None:
        return None
    axes = node.attributes.get("axes", given[2] if len(given) > 2 else None)
    listed = list(range(len(starts)) if axes is None else np.ravel(axes))
    if place not in listed:
        return None
    at = listed.index(place)
    start, stop, _ = slice(int(starts[at]), int(ends[at])).indices(total)
    return start, stop


@rule(
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL2",
    "ReduceProd",
    "ArgMax",
    "ArgMin",
)
def _reduced(reading: Reading, data: Axes) -> Axes:
    if len(reading.shape) == len(data):
        return tuple(
            () if n == 1 and kind_of(a) != "N" else a
            for a, n in zip(data, reading.shape, strict=True)
        )
    axes = reduced_axes(reading, len(data))
    return tuple(axis for place, axis in enumerate(data) if place not in axes)


def reduced_axes(reading: Reading, rank: int) -> frozenset[int]:
    """The axes that a reduction takes together."""
    listed = reading.integers("axes", 1)
    return frozenset(range(rank) if listed is None else (axis % rank for axis in listed))


@rule("Einsum")
def _einsum(reading: Reading, data: Axes) -> Axes:
    terms, arrow, result = reading.node.attributes["equation"].replace(" ", "").partition("->")
    if not arrow or "." in terms:
        return unknown(reading.shape)
    known: dict[str, Axis] = {}
    for letters, axes in zip(terms.split(","), reading.axes, strict=True):
        for letter, axis in zip(letters, axes or (), strict=False):
            known.setdefault(letter, axis)
    sizes = zip(result, reading.shape, strict=True)
    return tuple(known.get(letter, axis_of("C", size)) for letter, size in sizes)
