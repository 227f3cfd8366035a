"""What one run of a model in a graph says of it: its layers, how it ends, its head."""

from __future__ import annotations

from typing import NamedTuple

from xaimaps.errors import LayerError
from xaimaps_tensorflow._graph import Operation, Tensor, depending_on, ending, needed_for
from xaimaps_tensorflow._heads import Head, HeadFinder
from xaimaps_tensorflow._layers import Layers
from xaimaps_tensorflow._rectifiers import RECTIFIERS
from xaimaps_tensorflow._trace import Calls


class Trace(NamedTuple):
    """One run of the model in a graph.

    Attributes:
        images: what it was run on.
        output: the output that is explained, as the model returns it.
        calls: of its layers.
    """

    images: Tensor
    output: Tensor
    calls: Calls


class Reading(NamedTuple):
    """What one trace of the model says of it.

    Attributes:
        layers: its layers.
        ending: the operator and the layer of the last softmax or sigmoid.
        has_rectifiers: whether a rule would change anything.
        head: the pooled layer and the dense weights, or why there are none.
    """

    layers: Layers
    ending: tuple[str, str] | None
    has_rectifiers: bool
    head: tuple[str, Head] | str


def read(trace: Trace) -> Reading:
    """What a trace says of the model."""
    data, needed = depending_on([trace.images]), needed_for([trace.output])
    layers = Layers(trace.calls, needed, data, trace.images.shape[0])
    end = ending(trace.output)
    logits = trace.output if end is None else end.logits
    named = end and (
        end.operation.type,
        layers.name_of(end.operation.outputs[0]) or end.operation.name,
    )
    has_rectifiers = any(operation.type in RECTIFIERS for operation in needed & data)
    return Reading(layers, named, has_rectifiers, _head(layers, data, logits))


def _head(layers: Layers, data: set[Operation], logits: Tensor) -> tuple[str, Head] | str:
    """The pooled layer's name and the dense weights, or why there are none."""
    try:
        head = HeadFinder(logits.graph, data).find(logits)
    except LayerError as error:
        return str(error)
    name = layers.name_of(head.pooled)
    if name is None:
        return (
            "CAM needs a layer that is pooled, but what is pooled here comes of "
            f"{head.pooled.op.type} in the model's own code, which has no name; use grad_cam, or "
            "make a layer of it, as keras.layers.ReLU"
        )
    return name, head
