"""The choice of the layer that a map is made of, if the user names none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from xaimaps.graph._axes import Axes, Shape, kind_of
from xaimaps.graph._demands import Demands, has_grid
from xaimaps.graph._layout import Layout
from xaimaps.graph._operation import Operation, Value

JOINS = frozenset(
    {"view", "transpose", "slice", "pad", "expand", "resize", "rearrange", "concat", "select"}
    | {"sum", "product", "quotient", "exp", "arithmetic", "softmax", "sigmoid"}
    | {"quantize", "dequantize"}
)
"""Kinds that assemble the output from scores that the network has computed."""

WEIGHTED = frozenset({"conv", "dense", "matmul", "einsum", "attention", "recurrent"})


@dataclass(frozen=True)
class LayerChoice:
    """The search for the layer that explains an output best.

    Attributes:
        operations: the operations in the order of computation.
        producers: the operation that makes each value.
        output: the value to explain.
        axes: the meaning of the axes of every value that depends on the images.
        layouts: the layouts of the values that have one.
        shown: returns the shape of a value with channels last.
        demands: the parts of each value on which the output depends.
    """

    operations: Sequence[Operation]
    producers: Mapping[Value, Operation]
    output: Value
    axes: Mapping[Value, Axes]
    layouts: Mapping[Value, Layout]
    shown: Callable[[Value], Shape]
    demands: Demands

    def best(self, candidates: Sequence[Value]) -> Value | None:
        """Return the last layer on which all explained scores depend, None if there is none.

        If the output is a map itself, the layer is the last of the coarsest ones. A layer right
        before the scores would show their own values, whichever region is explained.
        """
        shared = [value for value in candidates if value in self._shared]
        if not shared:
            return None
        if self._is_map(self.output):
            fewest = min(map(self._positions, shared))
            return [value for value in shared if self._positions(value) == fewest][-1]
        best = self._last_read(shared)
        return None if best is None or self._is_lost_after(best) else best

    @functools.cached_property
    def _shared(self) -> Collection[Value]:
        """The values before the scores on which each of the scores depends."""
        behind = [self._before(score) - {score} for score in self._scores]
        return frozenset.intersection(*behind) if behind else frozenset()

    @functools.cached_property
    def _scores(self) -> Collection[Value]:
        """The values from which views, concatenations and arithmetic assemble the output."""
        found, left = set[Value](), [self.output]
        while left:
            value = left.pop()
            operation = self.producers.get(value)
            if operation is not None and self._is_join(operation):
                left += [one for one in operation.needs if one in self.demands]
            elif operation is not None:
                found.add(value)
        return found

    def _is_join(self, operation: Operation) -> bool:
        is_mean = operation.kind == "reduce" and not self._is_map(operation.reads[0])
        return is_mean or operation.kind in JOINS

    def _before(self, value: Value) -> frozenset[Value]:
        """Return the demanded values on which a value depends, itself included."""
        found, left = set[Value](), [value]
        while left:
            one = left.pop()
            if one not in found and one in self.demands:
                found.add(one)
                left += self.producers[one].needs if one in self.producers else ()
        return frozenset(found)

    def _is_map(self, value: Value) -> bool:
        return value in self.layouts and self._positions(value) > 1

    def _positions(self, value: Value) -> int:
        return math.prod(self.shown(value)[1:-1])

    def _last_read(self, candidates: Sequence[Value]) -> Value | None:
        """Return the last layer whose grid is read.

        After the last attention, a transformer that ends in a class token reads that token
        alone, and the gradient at all other tokens is zero. The layer right before the attention
        is read twice: the class token by the query, and all tokens by the keys.
        """
        reads = {
            v: {has_grid(demand, self.axes[v]) for demand in self.demands[v]} for v in candidates
        }
        whole = [value for value in candidates if True in reads[value]]
        if len(whole) == len(candidates) or not whole:
            return candidates[-1] if whole else None
        width = self._channels(candidates[-1])
        both = [v for v in whole if False in reads[v] and self._channels(v) == width]
        return both[-1] if both else whole[-1]

    def _channels(self, value: Value) -> int:
        return self.shown(value)[-1]

    def _is_lost_after(self, layer: Value) -> bool:
        """Return whether most of the network after a layer works on axes of unknown meaning.

        Its last known layer then is near the image, as the patch embedding of a transformer that
        reorders its tokens.
        """
        before = self._before(layer)
        weighted = [one for one in self.operations if one.kind in WEIGHTED and self._is_data(one)]
        lost = [
            one for one in weighted if not before.intersection(one.makes) and self._is_lost(one)
        ]
        return 2 * len(lost) > len(weighted)

    def _is_data(self, operation: Operation) -> bool:
        return any(value in self.demands for value in operation.makes)

    def _is_lost(self, operation: Operation) -> bool:
        kinds = {kind_of(axis) for value in operation.reads for axis in self.axes.get(value, ())}
        return "?" in kinds
