"""Which operations of a network are one layer, for methods that look at each layer by itself.

A layer is one operation. But files and frameworks write GELU or layer normalisation as one
operation or as ten, and FullGrad rescales each layer's bias by itself, so that its map would
depend on which. Hence what parts and joins again, without weights on the way, is one layer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Operation:
    """What an operation has to do with the data that comes of the images.

    Attributes:
        reads: the values of that data that it takes.
        makes: those that it gives.
        weighs: whether it has weights, and is a layer by itself whatever is around it.
    """

    reads: frozenset[Any]
    makes: frozenset[Any]
    weighs: bool


def joined(
    operations: Sequence[Operation], images: Iterable[Hashable]
) -> tuple[tuple[int, ...], ...]:
    """The layers of a network, each as the places of its operations.

    Args:
        operations: in the order of computation.
        images: the values that all others come of.

    Returns:
        Every place once, within a layer and among layers in the order of computation.
    """
    users: dict[Hashable, set[int]] = defaultdict(set)
    for place, operation in enumerate(operations):
        for value in operation.reads:
            users[value].add(place)
    left, found = set(range(len(operations))), list[list[int]]()
    for start in (frozenset(images), *(one.makes for one in operations)):
        places = _rejoined(start, operations, users)
        if left.issuperset(places):
            left.difference_update(places)
            found += [places] if places else []
    layers = [*found, *([place] for place in left)]
    return tuple(tuple(layer) for layer in sorted(layers, key=lambda layer: layer[-1]))


def _rejoined(
    start: frozenset[Any], operations: Sequence[Operation], users: dict[Hashable, set[int]]
) -> list[int]:
    """The operations from where values part to where they join; none if they do not.

    They do not if one on the way weighs, reads other data, or gives what nobody reads, or if they
    join into several values that are read.
    """
    known, found, left = set(start), list[int](), _users_of(start, users)
    if len(left) < 2:
        return []
    while left:
        place = min(left)
        operation = operations[place]
        if operation.weighs or operation.reads - known:
            return []
        found.append(place)
        left.remove(place)
        if left:
            following = _users_of(operation.makes, users)
            if not following:
                return []
            known |= operation.makes
            left |= following
    results = [value for value in operations[found[-1]].makes if value in users]
    return found if len(results) < 2 else []


def _users_of(values: Iterable[Hashable], users: dict[Hashable, set[int]]) -> set[int]:
    return {place for value in values for place in users.get(value, ())}
