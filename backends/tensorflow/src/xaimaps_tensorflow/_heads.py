"""The head of a classifier in a traced graph: global average pooling, then one dense layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from xaimaps.errors import LayerError
from xaimaps_tensorflow._graph import SAME, VIEWS, Operation, Tensor, source

ADDITIONS = frozenset({"Add", "AddV2", "BiasAdd"})
DENSE = frozenset({"MatMul", "Conv2D"})


class Variable(NamedTuple):
    """A variable of the model, which any graph can read."""

    handle: Any
    dtype: Any
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """Its value now."""
        value = tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype)
        return tf.ensure_shape(value, self.shape)


class Head(NamedTuple):
    """A pooled value and the dense weights behind it.

    Attributes:
        pooled: the value.
        weights: the variable; None where the pooled channels are the classes.
        is_transposed: whether the weights are (classes, channels).
    """

    pooled: Tensor
    weights: Variable | None
    is_transposed: bool = False


@dataclass(frozen=True)
class HeadFinder:
    """Walks back from the logits.

    Attributes:
        graph: the traced graph.
        data: its operations that depend on the images.
    """

    graph: Any
    data: set[Operation]

    def find(self, logits: Tensor) -> Head:
        """The head that makes the logits.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        last = self._last(logits)
        if _pools_globally(last):
            return Head(_pooled(last), None)
        self._require_dense(last)
        pool = source(last.inputs[0], VIEWS).op
        if not _pools_globally(pool):
            raise _no_head(f"{last.type} {last.name!r} does not follow the pooling")
        is_transposed = last.type == "MatMul" and last.get_attr("transpose_b")
        return Head(_pooled(pool), self._variable(last.inputs[1]), is_transposed)

    def _last(self, logits: Tensor) -> Operation:
        """The operation that makes the logits, apart from views and a bias."""
        for operation in self._back_from(logits):
            if operation.type not in VIEWS | ADDITIONS:
                return operation
        raise _no_head("the logits are the input")

    def _back_from(self, tensor: Tensor) -> Iterator[Operation]:
        """What makes a value, what makes that one's data, and so on, while there is just one."""
        while tensor.op in self.data:
            yield tensor.op
            data = [one for one in tensor.op.inputs if one.op in self.data]
            if len(data) != 1:
                raise _no_head(f"the logits come from {tensor.op.type} {tensor.op.name!r}")
            tensor = data[0]

    def _require_dense(self, operation: Operation) -> None:
        is_dense = operation.type in DENSE and operation.inputs[1].op not in self.data
        if not is_dense:
            raise _no_head(f"the logits come from {operation.type} {operation.name!r}")
        if operation.type == "Conv2D" and any(n != 1 for n in operation.inputs[1].shape[:2]):
            raise _no_head(f"Conv2D {operation.name!r} is no dense layer")

    def _variable(self, weights: Tensor) -> Variable:
        """The variable that is read for the weights."""
        handle = source(weights, SAME | {"ReadVariableOp"})
        for outside, inside in self.graph.captures:
            if inside is handle and outside.dtype == tf.resource:
                dtype = handle.consumers()[0].outputs[0].dtype
                return Variable(outside, dtype, tuple(weights.shape))
        raise _no_head("the dense weights are computed, and no variable")


def _pooled(pool: Operation) -> Tensor:
    return source(pool.inputs[0])


def _pools_globally(operation: Operation) -> bool:
    if operation.type == "AvgPool":
        before, after = operation.inputs[0].shape[1:3], operation.outputs[0].shape[1:3]
        window = operation.get_attr("ksize")[1:3]
        return [*window, 1, 1] == [*before, *after]
    if operation.type != "Mean" or operation.inputs[0].shape.rank not in (3, 4, 5):
        return False
    rank = operation.inputs[0].shape.rank
    axes = tf.get_static_value(operation.inputs[1])
    return axes is not None and {int(axis) % rank for axis in axes.ravel()} == {*range(1, rank - 1)}


def _no_head(found: str) -> LayerError:
    return LayerError(
        "CAM needs a model that ends in global average pooling and one dense layer, but here "
        f"{found}; use grad_cam"
    )
