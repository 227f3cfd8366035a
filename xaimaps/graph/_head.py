"""The end of a classifier: its last activation, and the pooling and dense layer before it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from xaimaps.errors import LayerError
from xaimaps.graph._axes import POSITIONS, Axes, Shape, kind_of
from xaimaps.graph._operation import Dense, Operation, Value

SAME = frozenset({"view", "quantize", "dequantize"})
"""Kinds that return their first input, in another shape or precision at most."""

PASSED = SAME | {"transpose"}


ASSEMBLING = PASSED | {"slice", "concat"}
"""Kinds that take parts of values, or join them, and compute nothing."""


class Ending(NamedTuple):
    """The softmax or sigmoid that a model ends in.

    Attributes:
        operation: the operation that makes the probabilities.
        function: the function that it computes.
        logits: the value that it converts to probabilities, if it is the whole output; else the
            output.
        replaced: for each value that has to be replaced so that the output is the logits, its
            replacement.
        is_whole: whether all of the output is such probabilities.
    """

    operation: Operation
    function: Literal["softmax", "sigmoid"]
    logits: Value
    replaced: Mapping[Value, Value]
    is_whole: bool = True

    def __str__(self) -> str:
        is_plain = self.operation.kind in ("softmax", "sigmoid")
        return f"{self.operation.operator if is_plain else self.function} {self.operation.name!r}"


class Head(NamedTuple):
    """Global average pooling and the dense layer after it.

    Attributes:
        pooled: the layer that is pooled.
        dense: the weights; None if the pooled channels are the classes.
    """

    pooled: Value
    dense: Dense | None


def find_ending(
    producers: Mapping[Value, Operation], output: Value, operations: Sequence[Operation] = ()
) -> Ending | None:
    """Return the softmax or sigmoid that makes an output, or the sigmoids that make parts of it.

    Args:
        producers: the operation that makes each value.
        output: the output.
        operations: those that read the same values, if a replaced value is replaced for all of
            them. A sigmoid is then left in place if another operation depends on it.
    """
    return _last_function(producers, output) or _assembled(producers, output, operations)


def _last_function(producers: Mapping[Value, Operation], output: Value) -> Ending | None:
    """Return the softmax or sigmoid that makes an output, except for views of its result."""
    replaced, value = dict[Value, Value](), output
    while (operation := producers.get(value)) and operation.kind in PASSED:
        if operation.kind in ("quantize", "dequantize"):  # quantised for values from 0 to 1
            replaced[value] = operation.reads[0]
        value = operation.reads[0]
    if operation is None:
        return None
    is_plain = operation.kind in ("softmax", "sigmoid")
    logits = operation.reads[0] if is_plain else _exponents(operation, producers)
    if logits is None:
        return None
    replaced[value] = logits
    function: Literal["softmax", "sigmoid"] = (
        "sigmoid" if operation.kind == "sigmoid" else "softmax"
    )
    return Ending(operation, function, logits, replaced)


def _assembled(
    producers: Mapping[Value, Operation], output: Value, operations: Sequence[Operation]
) -> Ending | None:
    """Return the sigmoids whose results are parts of an output, as of the boxes of a detector."""
    sigmoids, joins, others = list[Operation](), list[Operation](), list[Operation]()
    left = [output]
    while left:
        operation = producers.get(left.pop())
        if operation is not None and operation.kind == "sigmoid":
            sigmoids.append(operation)
        elif operation is not None and operation.kind in ASSEMBLING - {"quantize", "dequantize"}:
            joins.append(operation)
            left += operation.reads if operation.kind == "concat" else operation.reads[:1]
        elif operation is not None and operation.reads:  # not a constant
            others.append(operation)
    replaced = {one.makes[0]: one.reads[0] for one in sigmoids}
    if not sigmoids or _are_read_elsewhere(replaced, joins, operations):
        return None
    return Ending(sigmoids[0], "sigmoid", output, replaced, is_whole=not others)


def _are_read_elsewhere(
    values: Collection[Value], joins: Sequence[Operation], operations: Sequence[Operation]
) -> bool:
    """Return whether any of the operations but `joins` depends on one of some values."""
    affected = set(values)
    for operation in operations:
        if affected.intersection(operation.needs):
            if operation not in joins:
                return True
            affected.update(operation.makes)
    return False


def is_softmax(operation: Operation, producers: Mapping[Value, Operation]) -> bool:
    """Return whether an operation makes a softmax, which may be written out."""
    return operation.kind == "softmax" or _exponents(operation, producers) is not None


def _exponents(quotient: Operation, producers: Mapping[Value, Operation]) -> Value | None:
    """Return the logits of a softmax written as exp(x - max x) / sum(exp(x - max x))."""
    if quotient.kind != "quotient":
        return None
    exp = producers.get(quotient.reads[0])
    total = producers.get(through(quotient.reads[1], producers, SAME | {"expand"}))
    if exp is None or exp.kind != "exp" or total is None or total.sums is None:
        return None
    summed = producers.get(total.reads[0])
    if summed is None or summed.kind != "exp" or summed.reads != exp.reads:
        return None
    shifted = producers.get(exp.reads[0])
    # without the subtraction of the maximum, the exponents themselves are the logits
    if shifted is None or shifted.kind != "sum" or len(shifted.reads) != 2:
        return exp.reads[0]
    logits, most = shifted.reads
    largest = producers.get(through(most, producers, SAME | {"expand", "select"}))
    is_shift = largest is not None and largest.kind == "reduce" and largest.reads[0] == logits
    return logits if is_shift else exp.reads[0]


def through(value: Value, producers: Mapping[Value, Operation], kinds: frozenset[str]) -> Value:
    """Return the value before a chain of operations of these kinds."""
    while (operation := producers.get(value)) and operation.kind in kinds:
        before = next((one for one in operation.reads if one in producers), None)
        if before is None:
            break
        value = before
    return value


@dataclass(frozen=True)
class HeadFinder:
    """A search for the head, backwards from the logits.

    Attributes:
        producers: the operation that makes each value.
        data: the values that depend on the images.
        axes: the meaning of each value's axes.
        shapes: the shapes of the values that depend on the images.
        statics: the values that are known without any image.
    """

    producers: Mapping[Value, Operation]
    data: Collection[Value]
    axes: Mapping[Value, Axes]
    shapes: Mapping[Value, Shape]
    statics: Mapping[Value, np.ndarray[Any, Any]]

    def find(self, logits: Value) -> Head:
        """Return the head that makes the logits.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
        """
        last = self._last(logits)
        if (pool := self._global_pool(last)) is not None:
            return Head(self._pooled(pool), None)
        if last.dense is None or last.dense.weights in self.data:
            raise no_head(f"the logits come from {last}")
        vectors = [value for value in last.reads if value in self.data]
        if len(vectors) != 1:  # none for weights times weights
            raise no_head(f"{last} reads {len(vectors)} values of the images")
        before = self.producers.get(through(vectors[0], self.producers, PASSED))
        pool = self._global_pool(before) if before is not None else None
        if pool is None:
            raise no_head(f"{last} does not follow the pooling")
        return Head(self._pooled(pool), last.dense)

    def _last(self, logits: Value) -> Operation:
        """Return the operation that makes the logits, before views and the sum with a bias."""
        for operation in self._back_from(logits):
            if operation.kind not in PASSED | {"sum"}:
                return operation
        raise no_head("the logits are the input")

    def _back_from(self, value: Value) -> Iterator[Operation]:
        """Yield the operation that makes a value, the one that makes its data, and so on.

        Raises:
            LayerError: an operation reads more than one value that depends on the images.
        """
        while operation := self.producers.get(value):
            yield operation
            data = [one for one in operation.needs if one in self.data]
            if len(data) != 1:
                raise no_head(f"the logits come from {operation}")
            value = data[0]

    def _pooled(self, pool: Operation) -> Value:
        """Return the value that is pooled, before transpositions and dequantisation."""
        value = pool.reads[0]
        while operation := self.producers.get(value):
            is_same_shape = operation.kind == "view" and self._keeps_axes(operation)
            if operation.kind != "transpose" and not is_same_shape:
                break
            value = operation.reads[0]
        return value

    def _keeps_axes(self, operation: Operation) -> bool:
        before = self.axes.get(operation.reads[0])
        return before is not None and before == self.axes.get(operation.makes[0])

    def _global_pool(self, operation: Operation) -> Operation | None:
        """Return the operation that takes the mean over all spatial positions, or None.

        That is this operation or, if this one divides a sum by the number of positions, the sum.
        """
        if self._covers(operation, operation.averages):
            return operation
        if operation.kind not in ("product", "quotient"):
            return None
        total = self.producers.get(through(operation.reads[0], self.producers, SAME))
        if total is None or total.sums is None or not self._covers(total, total.sums):
            return None
        shape = self.shapes[total.reads[0]]
        count = math.prod([shape[axis] for axis in total.sums])
        factor = self.statics.get(operation.reads[1])
        if factor is None or factor.size != 1:
            return None
        by = (
            float(factor.reshape(()))
            if operation.kind == "quotient"
            else 1 / float(factor.reshape(()))
        )
        return total if math.isclose(by, count, rel_tol=1e-6) else None

    def _covers(self, operation: Operation, reduced: frozenset[int] | None) -> bool:
        """Return whether `reduced` has all spatial axes of the input, and no other axes.

        Axes with one position do not count.
        """
        axes = self.axes.get(operation.reads[0]) if operation.reads else None
        if axes is None or reduced is None:
            return False
        kinds = [kind_of(axis) for axis in axes]
        spatial = {axis for axis, kind in enumerate(kinds) if kind in f"{POSITIONS}S"}
        has_map = bool(spatial) or operation.kind in ("pool", "max_pool")
        has_others = {kinds[axis] for axis in reduced} - {*POSITIONS, "S", "1"}
        return has_map and reduced >= spatial and not has_others


def no_head(found: str) -> LayerError:
    """Return the error for a model that `cam` cannot explain."""
    return LayerError(
        "CAM needs a model that ends in global average pooling and one dense layer, but here "
        f"{found}; use grad_cam"
    )
