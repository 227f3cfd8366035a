"""A scan as one loop of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Fold `step(carry, x) -> (carry, y)` over the first axis of `xs`; see `Backend.scan`."""
    carry, xs = (tf.nest.map_structure(tf.convert_to_tensor, value) for value in (carry, xs))
    count = tf.nest.flatten(xs)[0].shape[0]
    # The step is a separate function: its one trace has the types of the ys, and its gradients.
    body = tf.function(_without_none(step), autograph=False).get_concrete_function(
        tf.nest.map_structure(_like, carry), tf.nest.map_structure(_row_like, xs)
    )
    empty = tf.nest.map_structure(
        lambda y: tf.TensorArray(y.dtype, count, element_shape=y.shape), body.structured_outputs[1]
    )

    def turn(i: Any, carry: Any, stacks: Any) -> tuple[Any, Any, Any]:
        carry, y = body(carry, tf.nest.map_structure(lambda x: tf.gather(x, i), xs))
        written = tf.nest.map_structure(lambda stack, one: stack.write(i, one), stacks, y)
        return i + 1, carry, written

    _, carry, stacks = tf.while_loop(
        lambda i, *_: i < count,
        turn,
        (tf.constant(0), carry, empty),
        parallel_iterations=1,
        maximum_iterations=count,
    )
    return carry, None if stacks == () else tf.nest.map_structure(lambda s: s.stack(), stacks)


def call_python(fn: Callable[[], None]) -> None:
    """Call a Python function from inside a graph, each time this operation runs."""
    tf.py_function(fn, [], [])


def _without_none(step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[Any, Any], Any]:
    """Return the same step with an empty tuple for no y, because a loop cannot hold None."""

    def stepped(carry: Any, x: Any) -> tuple[Any, Any]:
        carry, y = step(carry, x)
        return carry, () if y is None else y

    return stepped


def _like(value: Any) -> Any:
    return tf.TensorSpec(value.shape, value.dtype)


def _row_like(value: Any) -> Any:
    return tf.TensorSpec(value.shape[1:], value.dtype)
