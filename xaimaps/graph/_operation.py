"""One operation of a network, independent of any framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from xaimaps.graph._flow import Broadcast, Flow

Value = str
"""The name of a value; a layer's value has the name that users know."""

Kind = Literal[
    "view",  # returns its first input, in another shape at most
    "transpose",
    "slice",  # takes a part of its first input
    "pad",
    "expand",  # repeats its first input
    "resize",
    "rearrange",  # moves channels to spatial positions, or back
    "concat",
    "select",  # takes each element from one of its inputs
    "sum",
    "product",
    "quotient",
    "exp",
    "arithmetic",  # a mathematical function that is not an activation
    "conv",
    "dense",
    "matmul",
    "einsum",
    "attention",
    "recurrent",
    "control",  # runs other graphs
    "batch_norm",
    "norm",
    "relu",  # a rectifier, whose derivative the guided rules replace
    "activation",
    "sigmoid",
    "softmax",
    "pool",
    "max_pool",
    "reduce",
    "quantize",
    "dequantize",
    "size",  # reads the shape of its input, not its values
    "compare",
    "random",
    "other",
]


class Dense(NamedTuple):
    """The weights of an operation that is a dense layer over channels.

    Attributes:
        weights: the value that holds the weights.
        is_transposed: whether they are `(classes, channels)`.
        scale: a factor of the weights.
    """

    weights: Value
    is_transposed: bool = False
    scale: float = 1.0

    def matrix(self, xp: Any, weights: Any) -> Any:
        """Return the weights as `(channels, classes)`.

        Args:
            xp: the array functions.
            weights: the weights as a matrix.
        """
        return self.scale * (xp.permute_dims(weights, (1, 0)) if self.is_transposed else weights)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        kind: its function.
        operator: the framework's name of its operator, for messages.
        name: its own name, for messages.
        reads: the values that it reads, by position; "" for a missing optional input.
        makes: the values that it returns.
        captured: the values that its bodies read from outside, as those of a loop.
        flow: the rule by which the axes of its first result follow from those of its inputs.
        degree: the k of f(c x) = c^k f(x) for every c > 0, if all its inputs are scaled; None
            if there is no such k.
        is_linear: whether it is linear in each of its inputs, apart from an added constant.
        adds: whether it adds a constant that does not depend on its data, such as a bias.
        is_differentiable: whether its derivative is nonzero anywhere.
        dense: its weights, if it is a dense layer over channels.
        averages: the axes of its first input over which it takes the mean, if that is all it does.
        sums: the axes over which it sums, if that is all it does.
        module: the call of the author's module that it is a part of, if it has no modules inside.
    """

    kind: Kind
    operator: str
    name: str
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    captured: tuple[Value, ...] = ()
    flow: Flow = field(default_factory=Broadcast)
    degree: float | None = None
    is_linear: bool = False
    adds: bool = False
    is_differentiable: bool = True
    dense: Dense | None = None
    averages: frozenset[int] | None = None
    sums: frozenset[int] | None = None
    module: str = ""

    @property
    def needs(self) -> tuple[Value, ...]:
        """Every value that it reads, those of its bodies included."""
        return (*filter(None, self.reads), *self.captured)

    def __str__(self) -> str:
        return f"{self.operator} {self.name!r}"
