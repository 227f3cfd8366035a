"""Where gradients end: at operators whose result jumps, or stays, while their input moves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import onnx
from onnxjax.graph import Node

from xaimaps.errors import UnsupportedModelError

STEPS = frozenset(
    {
        *("And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr"),
        *("BitwiseXor", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf"),
        *("IsNaN", "Less", "LessOrEqual", "NonZero", "Not", "OneHot", "Or", "Round", "Sign", "Xor"),
    }
)
"""Operators whose derivative is zero wherever there is one."""

SIZES = frozenset({"Shape", "Size"})
"""Operators that read how big a value is, not what it is."""

REMEDY = "use a method without gradients, or explain an output before it"


def require_gradient(nodes: Iterable[Node], start: str, output: str) -> None:
    """Refuse a graph in which no gradient comes from an output back to a value.

    Args:
        nodes: in the order of computation.
        start: the value.
        output: the output, which may also not depend on it at all.

    Raises:
        UnsupportedModelError: a node stands in every way.
    """
    reached, alive, last = {start}, {start}, None
    for node in (node for node in nodes if node.operator not in SIZES):
        if reached.intersection(node.reads):
            reached.update(node.outputs)
        if alive.intersection(node.reads):
            if _is_step(node):
                last = node
            else:
                alive.update(node.outputs)
    if last is not None and output in reached - alive:
        raise UnsupportedModelError(
            f"no gradient passes the {last.operator} node {last.name!r}, which jumps; {REMEDY}"
        )


def _is_step(node: Node) -> bool:
    if node.operator == "Cast":
        to = node.attributes["to"]
        number = onnx.TensorProto.DataType.Value(to) if isinstance(to, str) else to
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
        return not jnp.issubdtype(dtype, jnp.floating)
    return node.operator in STEPS


@contextmanager
def differentiating() -> Iterator[None]:
    """Say in our words that a loop cannot be differentiated.

    Raises:
        UnsupportedModelError: JAX has met a loop whose end depends on the data.
    """
    try:
        yield
    except ValueError as error:
        if "Reverse-mode differentiation" not in str(error):
            raise
        raise UnsupportedModelError(
            "the model has a Loop that ends when its data say so, which no gradient passes; "
            f"{REMEDY}"
        ) from error
