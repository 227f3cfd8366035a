"""The parts of each value that the explained output depends on.

If a classifier reads a class token alone, the other tokens after the last attention have no
effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from xaimaps.graph._axes import Axes, Shape, grid_of, kind_of
from xaimaps.graph._flow import Region, Taken, View
from xaimaps.graph._operation import Operation, Value

Demand = frozenset[tuple[int, Taken]]
"""A region, without the axes of which every position is read."""

Demands = Mapping[Value, frozenset[Demand]]

OPAQUE = frozenset({"control", "recurrent", "random", "size", "other"})
"""Kinds for which any part of the result may depend on all of an input."""


def demands_of(
    operations: Sequence[Operation],
    outputs: Collection[Value],
    data: Collection[Value],
    shapes: Mapping[Value, Shape],
    view: Callable[[Operation, Value], View],
    is_opaque: Callable[[Operation], bool],
) -> Demands:
    """Return the demands for every value, from the outputs backwards.

    Args:
        operations: the operations in the order of computation.
        outputs: the values all of which is read.
        data: the values that depend on the images, and not on their size alone.
        shapes: the shapes of those that are floats.
        view: returns what the flow of an operation depends on, for one of its results.
        is_opaque: whether any part of an operation's result may depend on all of its inputs.
    """
    found: defaultdict[Value, set[Demand]] = defaultdict(set)
    for output in outputs:
        found[output].add(frozenset())
    for operation in reversed(operations):
        for value in operation.makes:
            for demand in found.get(value, ()):
                is_seen = value in shapes and not is_opaque(operation)
                seen = view(operation, value) if is_seen else None
                for read, part in _passed(operation, dict(demand), seen):
                    if read in data:
                        found[read].add(_demand(part))
    return {value: frozenset(demands) for value, demands in found.items()}


def _passed(operation: Operation, region: Region, view: View | None) -> list[tuple[Value, Region]]:
    """Return the values that an operation reads for a part of a result, each with its part.

    Without a view, as for results that are no floats or of opaque operations, they are read whole.
    """
    if view is None:
        return [(read, {}) for read in operation.needs]
    parts = [
        (read, operation.flow.read(position, region, view) if view.axes[position] else {})
        for position, read in enumerate(operation.reads)
    ]
    captured: list[tuple[Value, Region]] = [(read, {}) for read in operation.captured]
    return [*captured, *((read, part) for read, part in parts if part is not None)]


def _demand(region: Region) -> Demand:
    parts = region.items()
    return frozenset((axis, taken) for axis, taken in parts if taken[:2] != (0, taken.size))


def has_grid(demand: Demand, axes: Axes) -> bool:
    """Return whether a demand includes tokens of the grid, and not only others."""
    tokens = [(grid_of(axes[axis]), taken) for axis, taken in demand if kind_of(axes[axis]) == "T"]
    return all(taken.start < grid.stop and taken.stop > grid.start for grid, taken in tokens)
