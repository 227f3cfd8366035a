"""Operations that stop gradients: their result is piecewise constant."""

from __future__ import annotations

from collections.abc import Iterable

from xaimaps.errors import UnsupportedModelError
from xaimaps.graph._operation import Operation, Value

REMEDY = "use a method without gradients, or explain an output before it"


def require_gradient(operations: Iterable[Operation], start: Value, output: Value) -> None:
    """Refuse a network in which no gradient passes from an output back to a value.

    An output that does not depend on the value at all is accepted: its gradient is truly zero.

    Args:
        operations: the operations in the order of computation.
        start: the value.
        output: the output.

    Raises:
        UnsupportedModelError: every path between them has an operation whose derivative is zero.
    """
    # `reached` depends on the value; `alive` does so through differentiable operations alone
    reached, alive, last = {start}, {start}, None
    for operation in (one for one in operations if one.kind != "size"):
        if reached.intersection(operation.needs):
            reached.update(operation.makes)
        if alive.intersection(operation.needs):
            if operation.is_differentiable:
                alive.update(operation.makes)
            else:
                last = operation
    if last is not None and output in reached - alive:
        raise UnsupportedModelError(
            f"no gradient passes the {last.operator} node {last.name!r}, which jumps; {REMEDY}"
        )
