"""How much a model file may ask for before anything is computed from an image.

A few bytes of a graph can ask for terabytes: a shape to fill, a tensor doubled forty times, a
function that calls another twice, and so on a hundred deep. What is computed from constants is
therefore measured before it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnxjax._jax import jax, require_jax
from onnxjax.errors import ModelLoadError, UnsupportedModelError
from onnxjax.registry import Rule

Array = Any
Call = tuple[str, str, str]

MODEL_BYTES = 2**31 - 1
"""Protobuf cannot hold more."""

NODES = 10**6
"""Nodes of a graph after its function calls are written out."""

CONSTANT_BYTES = 2**26
"""A small file may fold constants of up to this size each,"""

GROWTH = 16
"""a big one of up to this many times its own."""

TOTAL = 4
"""All folded constants together may take this many times the most of one."""

TRACED_BYTES = 2**28
"""The most of one constant that depends on the size of the images."""

TRACED_ELEMENTS = 2**31
"""The most of one value that depends on the images."""

LEAST = 1024
"""What a computation is charged at least, so that endless cheap ones come to an end too."""


@dataclass
class Budget:
    """The bytes that constants may take: each of them, and all together."""

    each: float = TRACED_BYTES
    left: float = math.inf

    @classmethod
    def for_file(cls, size: int) -> Budget:
        """What a model of `size` bytes may compute from its constants while it is loaded."""
        each = max(CONSTANT_BYTES, GROWTH * size)
        return cls(each, TOTAL * each)

    def spend(self, size: int, what: str = "its result, a constant,") -> None:
        """Take `size` bytes for what a message calls `what`.

        Raises:
            UnsupportedModelError: there are not as many left.
        """
        self.left -= max(size, LEAST)
        if size > self.each or self.left < 0:
            raise UnsupportedModelError(
                f"{what} would take {size:,} bytes, above the limit of "
                f"{int(max(min(self.each, self.left + size), 0)):,} for this model; export it "
                "without constants that big"
            )


_BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Charge `budget` for what is computed from constants."""
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def charge(rule: Rule, fn: Callable[..., Any], inputs: Sequence[Array]) -> None:
    """Pay for the results of a rule before numpy computes them.

    Args:
        rule: the rule.
        fn: its function, ready to be called with `jax.numpy` and the inputs.
        inputs: numpy arrays, or None.

    Raises:
        UnsupportedModelError: they would be too big.
    """
    (_BUDGET.get() or Budget()).spend(_result_bytes(rule, fn, inputs))


def require_possible(results: Sequence[Array]) -> None:
    """Refuse values of shapes that no memory has room for, which tracing makes for nothing.

    Raises:
        UnsupportedModelError: there is one.
    """
    for shape in (np.shape(result) for result in results if result is not None):
        if math.prod(shape) > TRACED_ELEMENTS:
            raise UnsupportedModelError(
                f"its result of shape {list(shape)} would have more than {TRACED_ELEMENTS:,} "
                "elements; check the model"
            )


def _result_bytes(rule: Rule, fn: Callable[..., Any], inputs: Sequence[Array]) -> int:
    sizes = [np.size(x) for x in inputs if x is not None]
    most = 8 * max(sum(sizes), math.prod(map(max, sizes, [1] * len(sizes))))
    if (rule.elementwise or rule.bounded) and most <= 2**20:
        return most
    require_jax()
    try:
        return _traced_bytes(fn, inputs, rule.static)
    except Exception:  # the rule itself reports what is wrong with the inputs
        return 8 * sum(sizes)


def _traced_bytes(fn: Callable[..., Any], inputs: Sequence[Array], static: Collection[int]) -> int:
    """The size of a rule's results from the shapes of its inputs alone."""
    known = {i: x for i, x in enumerate(inputs) if x is None or i in static}
    shapes = [
        jax.ShapeDtypeStruct(np.shape(x), jax.dtypes.canonicalize_dtype(x.dtype))
        for i, x in enumerate(inputs)
        if i not in known
    ]

    def trace(*arrays: Array) -> Any:
        left = iter(arrays)
        return fn(*(known[i] if i in known else next(left) for i in range(len(inputs))))

    results = jax.tree.leaves(jax.eval_shape(trace, *shapes))
    return sum(math.prod(r.shape) * _width(r.dtype) for r in results)


def _width(dtype: np.dtype[Any]) -> int:
    """Bytes of an element; numpy's integers are wider than those of JAX."""
    return 8 if dtype.kind in "iu" else dtype.itemsize


def require_finite_calls(model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves, or that unfold to more nodes than any model has.

    Raises:
        ModelLoadError: they do.
    """
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    counts: dict[Call, int | None] = {}
    if _count(model.graph.node, bodies, counts) > NODES:
        raise ModelLoadError(
            f"the model's functions unfold to more than {NODES:,} nodes; export it without them"
        )


def _count(
    nodes: Sequence[onnx.NodeProto],
    bodies: Mapping[Call, Sequence[onnx.NodeProto]],
    counts: dict[Call, int | None],
) -> int:
    total = 0
    for node in nodes:
        graphs = (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)
        total += 1 + sum(_count(graph.node, bodies, counts) for graph in graphs)
        call = (node.domain, node.op_type, node.overload)
        if call in bodies:
            total += _count_call(call, bodies, counts)
    return total


def _count_call(
    call: Call,
    bodies: Mapping[Call, Sequence[onnx.NodeProto]],
    counts: dict[Call, int | None],
) -> int:
    if call not in counts:
        counts[call] = None
        counts[call] = _count(bodies[call], bodies, counts)
    count = counts[call]
    if count is None:
        raise ModelLoadError(
            f"the model's function {call[1]!r} calls itself; export the model without functions"
        )
    return count
