"""Limits on the memory that a model file can request before any image is computed.

A few bytes of a graph can request terabytes: a shape to fill, a tensor doubled forty times, or a
function that calls another one twice, and so on a hundred levels deep. Therefore the size of a
result is computed before the result itself, if it depends on constants alone.
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
"""The largest size of a protobuf message."""

NODES = 20_000
"""The number of nodes that the function calls of any graph may unfold to."""

NODES_GROWTH = 50
"""The number of nodes that they may unfold to, as a multiple of the file's own nodes."""

CONSTANT_BYTES = 2**26
"""The largest constant that a small file may fold."""

GROWTH = 16
"""The largest constant that a large file may fold, as a multiple of the file's size."""

TOTAL = 4
"""The limit on all folded constants together, as a multiple of the limit on one."""

TRACED_BYTES = 2**28
"""The largest constant that depends on the size of the images."""

TRACED_ELEMENTS = 2**31
"""The largest value that depends on the images."""

LEAST = 1024
"""The smallest charge for a computation, so that endlessly many cheap ones are refused too."""


@dataclass
class Budget:
    """The bytes that constants may take: each of them, and all together."""

    each: float = TRACED_BYTES
    left: float = math.inf

    @classmethod
    def for_file(cls, size: int) -> Budget:
        """Return the budget for the constants of a model file with `size` bytes."""
        each = max(CONSTANT_BYTES, GROWTH * size)
        return cls(each, TOTAL * each)

    def spend(self, size: int, what: str = "its result, a constant,") -> None:
        """Take `size` bytes from the budget.

        Args:
            size: the bytes.
            what: the subject of the error message.

        Raises:
            UnsupportedModelError: the budget is exceeded.
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
    """Charge `budget` for constants that are computed inside the context."""
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def charge(rule: Rule, fn: Callable[..., Any], inputs: Sequence[Array]) -> None:
    """Charge the budget for the results of a rule before numpy computes them.

    Args:
        rule: the rule.
        fn: its function, which takes the inputs and computes with `jax.numpy`.
        inputs: numpy arrays, or None.

    Raises:
        UnsupportedModelError: the results would be too large.
    """
    (_BUDGET.get() or Budget()).spend(_result_bytes(rule, fn, inputs))


def require_possible(results: Sequence[Array]) -> None:
    """Refuse values that are too large for any memory; tracing would not notice them.

    Raises:
        UnsupportedModelError: a value is too large.
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
    # most constants are this small, and need no trace to know their size
    if (rule.elementwise or rule.bounded) and most <= 2**20:
        return most
    require_jax()
    try:
        return _traced_bytes(fn, inputs, rule.static)
    except Exception:  # the rule itself reports invalid inputs when it runs
        return 8 * sum(sizes)


def _traced_bytes(fn: Callable[..., Any], inputs: Sequence[Array], static: Collection[int]) -> int:
    """Return the size of a rule's results, computed from the shapes of its inputs alone."""
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
    """Return the bytes of an element; numpy's integers are wider than those of JAX."""
    return 8 if dtype.kind in "iu" else dtype.itemsize


def require_finite_calls(model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves, or that unfold to too many nodes.

    Raises:
        ModelLoadError: a function is recursive, or they unfold to too many nodes.
    """
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    counts: dict[Call, int | None] = {}
    own = len(model.graph.node) + sum(map(len, bodies.values()))
    most = max(NODES, NODES_GROWTH * own)
    if _count(model.graph.node, bodies, counts) > most:
        raise ModelLoadError(
            f"the model's functions unfold to more than {most:,} nodes; export it without them"
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
        counts[call] = None  # in progress: a second visit before the count is known is a recursion
        counts[call] = _count(bodies[call], bodies, counts)
    count = counts[call]
    if count is None:
        raise ModelLoadError(
            f"the model's function {call[1]!r} calls itself; export the model without functions"
        )
    return count
