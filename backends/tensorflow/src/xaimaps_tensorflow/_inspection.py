"""The analysis of one run of a model in a graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from xaimaps.graph import Graph, Layout, no_head
from xaimaps_tensorflow._graph import SAME, Tensor, described, needed_for, source, tensors_in
from xaimaps_tensorflow._trace import Calls


class Trace(NamedTuple):
    """One run of the model in a graph.

    Attributes:
        images: the images on which it ran.
        output: the output to explain, as the model returns it.
        name: its name.
        names: the names of all outputs.
        calls: the calls of its layers.
    """

    images: Tensor
    output: Tensor
    name: str
    names: tuple[str, ...]
    calls: Calls


class Variable(NamedTuple):
    """A variable of the model, which any graph can read."""

    handle: Any
    dtype: Any
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """Return its current value."""
        value = tf.raw_ops.ReadVariableOp(resource=self.handle, dtype=self.dtype)
        return tf.ensure_shape(value, self.shape)


class Reading(NamedTuple):
    """The analysis of a trace at one image size.

    Attributes:
        trace: the trace.
        graph: its operations.
    """

    trace: Trace
    graph: Graph

    def layout(self, number: int) -> Layout | None:
        """Return the layout of a call's value, or None."""
        value = tensors_in(self.trace.calls[number].value)[0]
        return self.graph.layouts.get(value.name)


def read(trace: Trace) -> Reading:
    """Return the analysis of a trace."""
    needed = needed_for([trace.output, *_values(trace.calls)])
    ordered = [one for one in trace.output.graph.get_operations() if one in needed]
    return Reading(trace, described(ordered, trace.images, trace.output))


def _values(calls: Calls) -> list[Tensor]:
    return [tensor for call in calls.values() for tensor in tensors_in(call.value)]


def variable(graph: Any, weights: str) -> Variable:
    """Return the variable that a tensor of the graph reads.

    Raises:
        LayerError: the tensor is computed and not a variable.
    """
    handle = source(graph.get_tensor_by_name(weights), SAME | {"ReadVariableOp"})
    for outside, inside in graph.captures:
        if inside is handle and outside.dtype == tf.resource:
            read = handle.consumers()[0].outputs[0]
            return Variable(outside, read.dtype, tuple(read.shape))
    raise no_head("the dense weights are computed, and no variable")
