"""The operations that form one layer, and the degree and linearity of an operation.

A layer is usually one operation. But files and frameworks write GELU or layer normalisation as one
operation or as ten, and FullGrad rescales the bias of each layer separately, so that its map
would depend on how the network is written. Therefore a module of the author without modules inside
counts as one layer, and so does a fork-join region without weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from xaimaps.graph._operation import Operation, Value

Group = tuple[Operation, ...]
"""Operations in the order of computation, the last of which makes the layer's value."""

WEIGHING = frozenset({"conv", "dense", "matmul", "einsum", "recurrent", "control"})
"""Kinds that are always a layer of their own."""

JOINT = frozenset({"sum", "concat", "pad"})
"""Kinds that are linear in all their inputs together."""

SEPARATE = frozenset({"conv", "dense", "matmul", "einsum", "product", "batch_norm"})
"""Kinds that are linear in each input separately, apart from the bias that they add."""

MIXING = frozenset({"select", "pad"})
"""Kinds that are homogeneous only if none of their inputs of floats is constant."""


def layer_groups(operations: Sequence[Operation], data: Collection[Value]) -> tuple[Group, ...]:
    """Return the operations that read and make data, grouped into layers in order of computation.

    Args:
        operations: the operations that the scores depend on, in the order of computation.
        data: the images, and the values that depend on them as floats.
    """
    making = [one for one in operations if _links(one, data)]
    made = {value for one in making for value in one.makes}
    images = [value for value in data if value not in made]
    regions = _Regions(making, data)
    found = [module for module in _modules(making) if regions.has_one_result(module)]
    left = set(range(len(making))).difference(*found)
    for start in (images, *(one.makes for one in making)):
        region = regions.behind(start)
        if left.issuperset(region):
            left.difference_update(region)
            found += [region] if region else []
    layers = [*found, *([index] for index in left)]
    ordered = sorted(layers, key=lambda layer: layer[-1])
    return tuple(tuple(making[index] for index in layer) for layer in ordered)


def _modules(operations: Sequence[Operation]) -> Iterable[list[int]]:
    """Return the operations of each call of a module."""
    calls = defaultdict[str, list[int]](list)
    for index, operation in enumerate(operations):
        if operation.module:
            calls[operation.module].append(index)
    return calls.values()


def _links(operation: Operation, data: Collection[Value]) -> bool:
    """Return whether an operation reads and makes data."""
    made, read = (any(v in data for v in values) for values in (operation.makes, operation.needs))
    return made and read


class _Regions:
    """A search for fork-join regions among operations."""

    def __init__(self, operations: Sequence[Operation], data: Collection[Value]) -> None:
        self._reads = [{value for value in one.needs if value in data} for one in operations]
        self._makes = [{value for value in one.makes if value in data} for one in operations]
        self._weighs = [one.kind in WEIGHING for one in operations]
        self._users: dict[Value, set[int]] = defaultdict(set)
        for index, values in enumerate(self._reads):
            for value in values:
                self._users[value].add(index)

    def behind(self, start: Iterable[Value]) -> list[int]:
        """Return the operations between the fork of some values and the join of their branches.

        The list is empty if there is no such region: if an operation in it has weights, reads other
        data, or makes a value that nothing reads, or if the branches end in several values that are
        read.
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

    def has_one_result(self, group: Sequence[int]) -> bool:
        """Return whether only the last operation of a group makes values that others read."""
        inner = [value for index in group[:-1] for value in self._makes[index]]
        return self._users_of(inner) <= set(group)

    def _users_of(self, values: Iterable[Value]) -> set[int]:
        return {index for value in values for index in self._users.get(value, ())}


def degree(
    operation: Operation, data: Collection[Value], is_float: Callable[[Value], bool]
) -> float | None:
    """Return the degree of homogeneity of an operation in its data; None if it is not homogeneous.

    By Euler's theorem J x = k h(x) for an operation h of degree k with the Jacobian J at x.

    Args:
        operation: an operation with data among its inputs.
        data: the values that depend on the images as floats.
        is_float: whether another input has floats and is not a shape or an index.
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
    """Return whether a value is J x + c, with the same J and c for every x."""
    own = [value for value in operation.needs if value in data]
    is_linear = operation.kind in JOINT or (operation.kind in SEPARATE and len(own) == 1)
    return operation.is_linear and is_linear
