"""The operations to which rules apply: linear layers, functions of single elements, divisors."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xaimaps.graph import Graph, Operation, Value

LINEAR = frozenset({"conv", "dense", "matmul", "einsum"})
"""Kinds that can be a layer with weights."""

CONSTANT = frozenset({"sum", "product", "quotient", "batch_norm"})
"""Kinds that only scale and shift a value if all else that they read is constant."""

CURVED = frozenset({"relu", "activation", "sigmoid", "exp", "arithmetic", "select"})
"""Kinds that are another function of each element."""

ELEMENTWISE = CURVED | CONSTANT
"""Kinds whose results have an element for each element of their data."""

MOVES = frozenset({"view", "transpose", "slice", "concat", "pad", "expand", "resize", "rearrange"})
"""Kinds that only move values."""


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a network's operations.

    Attributes:
        graph: the network.
    """

    graph: Graph

    def data(self, operation: Operation) -> tuple[Value, ...]:
        """Return the values that depend on the images and that an operation reads."""
        known = self.graph.data
        return tuple(dict.fromkeys(one for one in operation.needs if one in known))

    @functools.cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operations on data from which the scores are made."""
        sized, scored = ("size", "compare", "random"), self._scored
        making = (one for one in self.graph.operations if scored.intersection(one.makes))
        return tuple(one for one in making if self.data(one) and one.kind not in sized)

    @property
    def _scored(self) -> set[Value]:
        """The values that the scores depend on, which are taken before a final softmax."""
        replaced = self.graph.ending.replaced if self.graph.ending else {}
        found, left = set[Value](), [self.graph.output]
        while left:
            value = left.pop()
            value = replaced.get(value, value)
            if value not in found and value in self.graph.producers:
                found.add(value)
                left += self.graph.producers[value].needs
        return found

    @functools.cached_property
    def _users(self) -> Mapping[Value, list[Operation]]:
        found: dict[Value, list[Operation]] = {}
        for one in self.graph.operations:
            for value in dict.fromkeys(one.needs):
                found.setdefault(value, []).append(one)
        return found

    @functools.cached_property
    def layers(self) -> tuple[tuple[Operation, ...], ...]:
        """The linear operations with weights, each with the constants that follow it."""
        starts = (o for o in self.operations if o.kind in LINEAR and o.is_linear)
        return tuple(self._with_constants(one) for one in starts if len(self.data(one)) == 1)

    def _with_constants(self, first: Operation) -> tuple[Operation, ...]:
        found = [first]
        while (following := self._only_user(found[-1])) is not None:
            found.append(following)
        while found[-1].kind == "view":
            found.pop()
        return tuple(found)

    def _only_user(self, operation: Operation) -> Operation | None:
        """Return the operation that alone reads a result, if it adds and scales by constants."""
        users = self._users.get(operation.makes[0], [])
        if len(users) != 1 or operation.makes[0] == self.graph.output:
            return None
        (user,) = users
        return user if self.is_constant(user) or user.kind == "view" else None

    def is_constant(self, operation: Operation) -> bool:
        """Return whether an operation scales or shifts its data by constants."""
        data = self.data(operation)
        if operation.kind == "quotient" and data != operation.reads[:1]:
            return False
        is_single = len(data) == 1 and operation.reads.count(data[0]) == 1
        return operation.kind in CONSTANT and is_single

    @functools.cached_property
    def folded(self) -> frozenset[Operation]:
        """The operations of `layers`."""
        return frozenset(one for layer in self.layers for one in layer)

    @functools.cached_property
    def _sources(self) -> Mapping[Value, Value]:
        """For each value that is a function of single elements of others, the nearest such value.

        The result of x sigmoid(x) is a function of x, and of what x is a function of.
        """
        found: dict[Value, Value] = {}

        def chain(value: Value) -> Iterator[Value]:
            yield value
            while value := found.get(value, ""):
                yield value

        for one in self.operations:
            joins = one.kind in ELEMENTWISE or one.kind == "view"
            if not joins or len(one.makes) != 1 or one in self.folded:
                continue
            first, *others = (list(chain(value)) for value in self.data(one))
            shared = (value for value in first if all(value in other for other in others))
            source = next(shared, None)
            shapes = self.graph.shapes
            if source is not None and shapes.get(source) == shapes.get(one.makes[0]):
                found[one.makes[0]] = source
        return found

    @functools.cached_property
    def functions(self) -> tuple[tuple[tuple[Operation, ...], Value], ...]:
        """The operations of each function of single elements, and the value it reads.

        A function such as x sigmoid(x) has several operations; the last group that contains an
        operation replaces the others.
        """
        return tuple(self._functions())

    def _functions(self) -> Iterator[tuple[tuple[Operation, ...], Value]]:
        for one in self.operations:
            source = self._sources.get(one.makes[0])
            if source is None or one.kind == "view":
                continue
            if len(self.data(one)) > 1:
                between = self._between(source, one)
                if self._are_read_inside(between):
                    yield between, source
            elif one.kind in CURVED:
                yield (one,), source

    def _between(self, source: Value, last: Operation) -> tuple[Operation, ...]:
        """Return the operations from a value to an operation."""
        needed, found = set(self.data(last)) - {source}, [last]
        for one in reversed(self.operations):
            if needed.intersection(one.makes):
                found.append(one)
                needed.update(set(self.data(one)) - {source})
        return tuple(reversed(found))

    def _are_read_inside(self, operations: tuple[Operation, ...]) -> bool:
        """Return whether nothing else reads what all operations but the last one make."""
        inner = (value for one in operations[:-1] for value in one.makes)
        return all(user in operations for value in inner for user in self._users.get(value, ()))

    def is_known(self, operation: Operation) -> bool:
        """Return whether an operation is linear, or a DeepLIFT rule may be for it."""
        sums = operation.averages is not None or operation.sums is not None
        is_function = operation.kind in CURVED and len(self.data(operation)) == 1
        is_part = any(operation in between for between, _ in self.functions)
        known = LINEAR | CONSTANT | MOVES | {"pool", "max_pool"}
        return operation.kind in known or sums or is_function or is_part

    @functools.cached_property
    def divisors(self) -> frozenset[Value]:
        """The values that are a constant times 1 / x^k, for a value x."""
        found: set[Value] = set()
        for one in self.operations:
            data = self.data(one)
            is_power = one.kind == "arithmetic" and (one.degree or 0) < 0
            is_quotient = one.kind == "quotient" and one.reads[0] not in data
            scales = one.kind in MOVES | {"product"} and found.issuperset(data)
            if is_power or is_quotient or scales:
                found.update(one.makes)
        return frozenset(found)

    @functools.cached_property
    def attention(self) -> frozenset[Value]:
        """The values that a softmax makes, and that are moved at most."""
        found: set[Value] = set()
        for one in self.operations:
            if one.kind == "softmax" or (one.kind in MOVES and found.issuperset(self.data(one))):
                found.update(one.makes)
        return frozenset(found)

    @functools.cached_property
    def front(self) -> frozenset[Value]:
        """The images, and the values that have their pixels, rescaled and moved at most."""
        found = {self.graph.images}
        for one in self.operations:
            moves = one.kind in MOVES or self.is_constant(one)
            if moves and one not in self.folded and found.issuperset(self.data(one)):
                found.update(one.makes)
        return frozenset(found)
