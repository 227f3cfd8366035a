"""The tokens of a transformer that contribute to the output.

If the classifier reads a class token alone, the other tokens after the last attention have no
effect. A demand is the part of a value that the rest of the network reads: either all of it
(`ALL`), or only tokens outside the grid on one axis. The demand then is the index of that axis
among the axes of the value that hold tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from xaimaps.graph._axes import Axes, grid_of, kind_of
from xaimaps.graph._flow import Picked, Regrouped, Resized, View
from xaimaps.graph._operation import Operation, Value

ALL = -1
"""The demand for every token."""

Demands = frozenset[int]

OPAQUE = frozenset({"control", "recurrent", "random", "size", "other"})
"""Kinds for which the result at a token may depend on every token."""


def token_demands(
    operations: Sequence[Operation],
    output: Value,
    axes: Mapping[Value, Axes],
    view: Callable[[Operation], View],
) -> dict[Value, Demands]:
    """Return the demands for every value, from the output backwards.

    Args:
        operations: the operations in the order of computation.
        output: the value to explain, of which everything is read.
        axes: the meaning of each value's axes.
        view: returns what the flow of an operation depends on.
    """
    found: defaultdict[Value, set[int]] = defaultdict(set, {output: {ALL}})
    for operation in reversed(operations):
        wanted = {demand for value in operation.makes for demand in found.get(value, ())}
        for position, value in enumerate(operation.reads):
            if value in axes and wanted:
                found[value] |= {_passed(operation, position, axes, view, d) for d in wanted}
        for value in operation.captured:
            if wanted:
                found[value].add(ALL)
    return {value: frozenset(demands) for value, demands in found.items()}


def _passed(
    operation: Operation,
    position: int,
    axes: Mapping[Value, Axes],
    view: Callable[[Operation], View],
    demand: int,
) -> int:
    """Return the demand of an operation for one input, given the demand for its result."""
    read, result = axes[operation.reads[position]], axes.get(operation.makes[0], ())
    if position == 0 and (run := _cut_off(operation, read)) is not None:
        return run
    runs, before = _runs(result), _runs(read)
    if demand == ALL or operation.kind in OPAQUE or not before or demand >= len(runs):
        return ALL
    if isinstance(operation.flow, Regrouped):
        return demand if len(runs) == len(before) else ALL
    axis = operation.flow.source(runs[demand], position, view(operation))
    return before.index(axis) if axis in before else ALL


def _cut_off(operation: Operation, read: Axes) -> int | None:
    """Return the index of the tokens of which a slice takes only some outside the grid, or None."""
    if not isinstance(operation.flow, Resized | Picked):
        return None
    for run, axis in enumerate(_runs(read)):
        span = operation.flow.spans.get(axis)
        if span is not None and kind_of(read[axis]) == "T":
            grid = grid_of(read[axis])
            if span[1] <= grid.start or span[0] >= grid.stop:
                return run
    return None


def _runs(axes: Axes) -> list[int]:
    """Return the axes that hold all tokens of a sequence with a grid."""
    return [
        place
        for place, axis in enumerate(axes)
        for part in axis
        if part.kind == "T" and part.size == part.total
    ]
