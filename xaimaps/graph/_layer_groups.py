"""Which operations of a network are one layer, and what each layer adds to a linear function.

A layer is one operation. But files and frameworks write GELU or layer normalisation as one
operation or as ten, and FullGrad rescales the bias of each layer separately, so that its map
would depend on how the network is written. Therefore a fork-join region without weights counts
as one layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from xaimaps.graph._operation import Operation, Value

Group = tuple[Operation, ...]
"""Operations in the order of computation, the last of which makes the layer's value."""

WEIGHING = frozenset({"conv", "dense", "matmul", "einsum", "recurrent", "control"})
"""Kinds that are a layer each, whatever is around them."""

JOINT = frozenset({"sum", "concat", "pad"})
"""Kinds that are linear in all inputs together."""

SEPARATE = frozenset({"conv", "dense", "matmul", "einsum", "product", "batch_norm"})
"""Kinds that are linear in each input separately, apart from what they add."""

MIXING = frozenset({"select", "pad"})
"""Kinds that scale only where none of what they choose from is constant."""


def layer_groups(operations: Sequence[Operation], data: Collection[Value]) -> tuple[Group, ...]:
    """The operations that make data of data, as layers in the order of computation.

    Args:
        operations: those that the scores depend on, in the order of computation.
        data: the values that depend on the images as floats, the images too.
    """
    making = [one for one in operations if _links(one, data)]
    made = {value for one in making for value in one.makes}
    images = [value for value in data if value not in made]
    regions = _Regions(making, data)
    left, found = set(range(len(making))), list[list[int]]()
    for start in (images, *(one.makes for one in making)):
        region = regions.behind(start)
        if left.issuperset(region):
            left.difference_update(region)
            found += [region] if region else []
    layers = [*found, *([index] for index in left)]
    ordered = sorted(layers, key=lambda layer: layer[-1])
    return tuple(tuple(making[index] for index in layer) for layer in ordered)


def _links(operation: Operation, data: Collection[Value]) -> bool:
    """Whether an operation makes data of data."""
    made, read = (any(v in data for v in values) for values in (operation.makes, operation.needs))
    return made and read


class _Regions:
    """Finds fork-join regions among operations."""

    def __init__(self, operations: Sequence[Operation], data: Collection[Value]) -> None:
        self._reads = [{value for value in one.needs if value in data} for one in operations]
        self._makes = [{value for value in one.makes if value in data} for one in operations]
        self._weighs = [one.kind in WEIGHING for one in operations]
        self._users: dict[Value, set[int]] = defaultdict(set)
        for index, values in enumerate(self._reads):
            for value in values:
                self._users[value].add(index)

    def behind(self, start: Iterable[Value]) -> list[int]:
        """The operations from where values fork to where they join; none if they do not.

        They do not if an operation between has weights, reads other data, or makes what nothing
        reads, or if they join into several values that are read.
        """
        known, found = set(start), list[int]()
        left = self._users_of(known)
        if len(left) < 2:
            return []
        while left:
            index = min(left)
            if self._weighs[index] or self._reads[index] - known:
                return []
            found.append(index)
            left.remove(index)
            if left:
                following = self._users_of(self._makes[index])
                if not following:
                    return []
                known |= self._makes[index]
                left |= following
        results = [value for value in self._makes[found[-1]] if value in self._users]
        return found if len(results) < 2 else []

    def _users_of(self, values: Iterable[Value]) -> set[int]:
        return {index for value in values for index in self._users.get(value, ())}


def degree(
    operation: Operation, data: Collection[Value], is_float: Callable[[Value], bool]
) -> float | None:
    """The power of its data that an operation scales with; None if it does not scale.

    By Euler's theorem J x = k h(x) for an operation h of degree k with the Jacobian J at x.

    Args:
        operation: one with data among its inputs.
        data: the values that depend on the images as floats.
        is_float: whether another input is of floats, and no shape or index.
    """
    own = [value for value in operation.needs if value in data]
    others = [value for value in operation.needs if value not in data and is_float(value)]
    if operation.is_linear and operation.kind in SEPARATE:
        return None if operation.adds else len(own)
    if operation.is_linear and operation.kind == "quotient":
        numerator, denominator = (value in data for value in operation.reads[:2])
        return float(numerator) - float(denominator)
    if operation.is_linear and operation.kind in JOINT:
        return None if others else 1
    return None if others and operation.kind in MIXING else operation.degree


def is_affine(operation: Operation, data: Collection[Value]) -> bool:
    """Whether a value is J x + c, with the same J and c for every x."""
    own = [value for value in operation.needs if value in data]
    is_linear = operation.kind in JOINT or (operation.kind in SEPARATE and len(own) == 1)
    return operation.is_linear and is_linear
