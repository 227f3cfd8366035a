"""One operation of a network, in words that no framework owns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from xaimaps.graph._flow import Broadcast, Flow

Value = str
"""The name of a value. Names of layers are those that users know."""

Kind = Literal[
    "view",  # hands its first input on, in another shape at most
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
    "arithmetic",  # a function of mathematics that is no activation
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
    "reduce",
    "quantize",
    "dequantize",
    "size",  # reads how large its input is, not its values
    "compare",
    "random",
    "other",
]


class Dense(NamedTuple):
    """The weights of an operation that is a dense layer over channels.

    Attributes:
        weights: the value that holds them.
        is_transposed: whether they are `(classes, channels)`.
        scale: a factor.
    """

    weights: Value
    is_transposed: bool = False
    scale: float = 1.0

    def matrix(self, xp: Any, weights: Any) -> Any:
        """The weights as `(channels, classes)`.

        Args:
            xp: the namespace of the array.
            weights: the array, on two axes.
        """
        return self.scale * (xp.permute_dims(weights, (1, 0)) if self.is_transposed else weights)


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        kind: what it does.
        operator: the framework's word for it, for messages.
        name: its own name, for messages.
        reads: the values that it takes, by position; "" for a missing optional one.
        makes: the values that it gives.
        captured: values that bodies inside it read.
        flow: how the axes of its first result follow from those of its inputs.
        degree: the k of f(c x) = c^k f(x) for every c > 0, where all its inputs are scaled; None
            if there is none.
        is_linear: whether it is linear in each of its inputs, apart from what it adds.
        adds: whether it adds something that does not depend on its data, as a bias.
        is_differentiable: whether its derivative is other than zero anywhere.
        dense: its weights, if it is a dense layer over channels.
        averages: the axes of its first input that it takes the mean over, if it does only that.
        sums: those that it sums over.
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

    @property
    def needs(self) -> tuple[Value, ...]:
        """Every value that it reads, those of its bodies too."""
        return (*filter(None, self.reads), *self.captured)

    def __str__(self) -> str:
        return f"{self.operator} {self.name!r}"
