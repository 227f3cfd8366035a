"""`Change`: operations whose derivative a rule replaces, and what a rule sees of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from xaimaps.graph import Operation, Value

Array = Any


@dataclass(frozen=True)
class Local:
    """The values at some operations, and these operations as functions.

    Attributes:
        xp: the array functions.
        value: returns the value that has a name.
        compute: returns the value of a name, computed from other values instead of those in the
            network. Operations that make a given value are not run.
        reference: returns the value that has a name, for the images that these are compared with.
        vjp: `vjp(fn, x, c)` returns c times the Jacobian of `fn` at x.
    """

    xp: Any
    value: Callable[[Value], Array]
    compute: Callable[[Mapping[Value, Array], Value], Array]
    reference: Callable[[Value], Array]
    vjp: Callable[[Callable[[Array], Array], Array, Array], Array]


class Rule(Protocol):
    """What a backward pass carries across some operations."""

    def pull(self, change: Change, local: Local, c: Array) -> tuple[Array | None, ...]:
        """Return c at each of the change's data, given c at its result; None for zero."""


@dataclass(frozen=True, eq=False)
class Change:
    """Operations that have another derivative.

    Attributes:
        operations: in the order of computation; the last one makes the result.
        data: the values that depend on the images and that the operations read from outside.
        rule: the rule.
        weights: the weights of the first operation, if it is linear in its data and its weights.
        bias: the bias that the first operation adds, if it reads one.
        own: the number of operations that are the linear layer with its bias, or with all that
            scales and shifts its weights; relevance passes the others unchanged.
    """

    operations: tuple[Operation, ...]
    data: tuple[Value, ...]
    rule: Rule
    weights: Value = ""
    bias: Value = ""
    own: int = 1

    @property
    def result(self) -> Value:
        """The value that the operations make."""
        return self.operations[-1].makes[0]

    @property
    def inner(self) -> frozenset[Value]:
        """The values that are read inside only."""
        return frozenset(value for one in self.operations[:-1] for value in one.makes)

    @property
    def layer(self) -> Value:
        """The value of the linear layer."""
        return self.operations[self.own - 1].makes[0]

    def outcome(self, local: Local, name: Value, x: Array) -> Array:
        """Return the result for another value of one of the data."""
        return local.compute({name: x}, self.result)
