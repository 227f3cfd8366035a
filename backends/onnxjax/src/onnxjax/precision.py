"""The precision of a graph's values and products, for each node and without a flag of the process.

"float32" multiplies in full float32 on every device. "tf32" lets a GPU round the inputs of products
to 10 bits behind the point; a CPU computes them in float32. In "bfloat16", values are stored and
multiplied in bfloat16, and computed in float32: sums, normalisations, softmax, and everything
behind the last products.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

from onnxjax._arrays import is_static
from onnxjax._jax import jax, jnp
from onnxjax.graph import Graph, Node, Step, Values

Array = Any
Precision = Literal["float32", "tf32", "bfloat16"]

_PRODUCTS: Mapping[Precision, str] = {
    "float32": "highest",
    "tf32": "tensorfloat32",
    "bfloat16": "highest",  # of the few products that stay in float32
}


def multiplying(precision: Precision) -> AbstractContextManager[None]:
    """Trace products in a precision; the setting is this thread's, and ends with the context."""
    context: AbstractContextManager[None] = jax.default_matmul_precision(_PRODUCTS[precision])
    return context


def computing(precision: Precision, graph: Graph, results: Collection[str]) -> Step:
    """Return a step that computes each node in a precision.

    Args:
        precision: the precision.
        graph: the nodes.
        results: the values whose last products stay in float32, so that scores are not rounded.
    """
    last = _behind_products(graph, results) if precision == "bfloat16" else frozenset[str]()

    def run(node: Node, values: Values) -> None:
        with multiplying(precision):
            if precision == "bfloat16":
                _mix(node, values, is_last=not last.isdisjoint(node.outputs))
            else:
                node(values)

    return run


def rounded(params: Any) -> Any:
    """Return parameters in bfloat16; integers are not changed."""
    return _converted(params, jnp.bfloat16)


def with_rounded_factors(graph: Graph, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a graph, with those that products read in bfloat16."""
    factors = {name for node in graph.nodes if node.is_product for name in node.reads[:2]}
    return {name: rounded(x) if name in factors else x for name, x in params.items()}


def _behind_products(graph: Graph, results: Collection[str]) -> frozenset[str]:
    """Return the values between the last products and the results, with those products' own."""
    found = set(results)
    for node in reversed(graph.nodes):
        if not found.isdisjoint(node.outputs):
            found.update(node.outputs if node.is_product else (*node.outputs, *node.reads))
    return frozenset(found)


def _mix(node: Node, values: Values, *, is_last: bool) -> None:
    """Run a node on values in bfloat16 if it is a product, and otherwise in float32."""
    given = {name: values[name] for name in node.reads}
    factors = node.reads[:2] if node.is_product and not is_last else ()
    if not all(map(is_static, given.values())):
        given = {
            name: _converted(value, jnp.bfloat16 if name in factors else jnp.float32)
            for name, value in given.items()
        }
    node(given)
    made = {name: given[name] for name in node.outputs if name}
    is_statistic = node.is_sum or not any(_is_short(values[name]) for name in node.reads)
    keeps = is_last or (is_statistic and not factors)
    values.update(made if keeps else _converted(made, jnp.bfloat16))


def _converted(tree: Any, dtype: Any) -> Any:
    """Return arrays of floats in another type; static numbers only become shorter."""

    def convert(x: Array) -> Array:
        is_float = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
        is_kept = not is_float or (is_static(x) and dtype == jnp.float32)
        return x if is_kept else jnp.asarray(x, dtype)

    return jax.tree.map(convert, tree)


def _is_short(value: Any) -> bool:
    return any(getattr(x, "dtype", None) == jnp.bfloat16 for x in jax.tree.leaves(value))
